"""`entityclip evaluate` on a data set: from a checkpoint and a prepared split to all numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.checkpoint import Checkpoint
from model.data.prepare import resolve_prepared
from model.data.prepared import PreparedSplit, open_prepared
from model.data.sample import DataError
from model.device import choose_device
from model.evaluation.comparison import compare
from model.evaluation.dataset_variants import DIRECTIONS, Measured, Options, measure, recall_of_mix
from model.evaluation.datasets import EXPLANATIONS, Explanations, Rows, choose_rows, encode_rows, encode_texts
from model.evaluation.encoded import SetEncoder
from model.evaluation.retrieval import chance_metrics, rank_metrics
from model.evaluation.sections import zero_shot
from model.pictures.decode import ResizeMode

DEFAULT_SHARE = 0.5
DEFAULT_RERANK = 50
_SHARES = tuple(step / 10 for step in range(1, 11))
_MOST_VALIDATION_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may choose.

    Args:
        split: `train`, `val` or `test`.
        explanations: conditions at test time; None for all that the data allows.
        rerank: k of the re-ranked variants; 0 for none, None for 50 or as many rows as there are.
        share: of T* in variant Q; None for the best one on the validation split.
        limit: most rows, drawn with a fixed seed; None for all.
        device: torch device; None for the GPU where there is one.
    """

    split: str = "test"
    explanations: tuple[Explanations, ...] | None = None
    rerank: int | None = None
    share: float | None = None
    limit: int | None = None
    device: str | None = None
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class DataSetResult:
    """What was measured on one data set.

    Args:
        facts: JSON-ready: how it was measured, and every number.
        measured: the ranks behind them.
    """

    facts: dict[str, object]
    measured: list[Measured]


def evaluate_data_set(checkpoint: Checkpoint, data: str, choices: Choices, cache: Path) -> DataSetResult:
    """Measure a checkpoint on one split of a data set.

    Args:
        data: `KIND:PATH` (prepared once, kept in the cache) or a prepared folder.

    Raises:
        DataError: the data cannot be read, or the split is empty.
        ValueError: choices that do not fit the data.
    """
    device = choose_device(choices.device)
    folder = resolve_prepared(data, cache)
    split = _open(folder, data, choices.split)
    numbers = choose_rows(split.count, choices.limit)
    conditions = _conditions(split, choices, data)
    heads = not checkpoint.fresh_heads
    rerank = _rerank(choices.rerank, len(numbers), data) if heads else 0
    preprocess = checkpoint.config.preprocess
    encoder = SetEncoder(checkpoint.model, preprocess, device=device, batch_size=choices.batch_size)
    rows = encode_rows(encoder, split, preprocess.resize_mode, numbers)
    share, chosen_on = DEFAULT_SHARE, "the default"
    if choices.share is not None:
        share, chosen_on = choices.share, "given"
    elif heads and choices.split != "val":
        share, chosen_on = _best_share(encoder, folder, preprocess.resize_mode, conditions, device)
    options = Options(conditions, rerank, share, heads=heads, device=device)
    measured = measure(encoder, rows, options)
    sections = zero_shot(encoder, rows.image_features, rows.sections)
    facts: dict[str, object] = {
        "data": data,
        "dataset": split.dataset,
        "split": split.name,
        "fingerprint": split.fingerprint,
        "model_id": checkpoint.model_id,
        "device": device,
        "counts": _counts(split, rows),
        "served": "C" if checkpoint.config.text == "concat" else "P",
        "heads": "trained" if heads else "fresh: only P and C are measured",
        "mix": {"share": share, "chosen_on": chosen_on} if heads else None,
        "rerank": rerank,
        "variants": [_variant_facts(each) for each in measured],
        "chance": chance_metrics(rows.count),
        "comparisons": [comparison.facts() for comparison in compare(measured, rows.image_group)],
        "sections": None if sections is None else asdict(sections),
    }
    return DataSetResult(facts, measured)


def _open(folder: Path, data: str, name: str) -> PreparedSplit:
    split = open_prepared(folder, name)
    if not split.count:
        raise DataError(f"{data}: the split {name} has no rows")
    return split


def _rerank(wanted: int | None, rows: int, data: str) -> int:
    if wanted is not None and wanted > rows:
        raise ValueError(f"{data}: --rerank {wanted}, but there are only {rows} rows to rank")
    return min(DEFAULT_RERANK, rows) if wanted is None else wanted


def _conditions(split: PreparedSplit, choices: Choices, data: str) -> tuple[Explanations, ...]:
    """What was asked for, or all that the data allows."""
    explained = any(split.explanations)
    if choices.explanations is None:
        return EXPLANATIONS if explained else ("none",)
    if not explained and set(choices.explanations) != {"none"}:
        raise ValueError(f"{data}: the split {split.name} has no explanations, so only --explanations none")
    return choices.explanations


def _best_share(
    encoder: SetEncoder, folder: Path, mode: ResizeMode, conditions: Sequence[Explanations], device: str
) -> tuple[float, str]:
    """The share of T* that has the highest R@1 on (part of) the validation split, and a word on it."""
    try:
        split = open_prepared(folder, "val")
    except DataError:
        split = None
    if split is None or not split.count:
        return DEFAULT_SHARE, "the default: there is no validation split"
    rows = encode_rows(encoder, split, mode, choose_rows(split.count, _MOST_VALIDATION_ROWS))
    shown = rows.explanations if "true" in conditions else [""] * rows.count
    texts = encode_texts(encoder, rows.captions, shown, rows.text_group)
    recall = [recall_of_mix(texts, rows, share, device) for share in _SHARES]
    return _SHARES[int(np.argmax(recall))], f"{rows.count} rows of the validation split"


def _counts(split: PreparedSplit, rows: Rows) -> dict[str, object]:
    return {
        "rows": rows.count,
        "of_rows": split.count,
        "pictures": len(np.unique(rows.image_group)),
        "captions": len(np.unique(rows.text_group)),
        "explained": sum(map(bool, rows.explanations)),
        "left_out": dict(split.left_out),
    }


def _variant_facts(measured: Measured) -> dict[str, object]:
    return {
        "variant": measured.variant,
        "explanations": measured.explanations,
        **{
            direction: {
                "strict": rank_metrics(getattr(measured, direction).strict),
                "duplicate_aware": rank_metrics(getattr(measured, direction).duplicate_aware),
            }
            for direction in DIRECTIONS
        },
    }
