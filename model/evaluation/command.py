"""`entityclip evaluate`: a checkpoint and data in, numbers out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from model import checkpoint
from model.device import choose_device
from model.evaluation import dataset_run
from model.evaluation.flagnews import (
    by_group,
    chance,
    histogram_recall,
    pool_scores,
    recall_by_share,
)
from model.evaluation.trained_on import FlagNewsFacts
from model.flagnews.bank import generator_hash
from model.flagnews.compose import SHARE_RANGE
from model.flagnews.pools import Pool, draw_pools, photo_pools, seen_mask
from model.serving.encoder import Encoder
from model.training import flagnews_run

FLAGNEWS = ("flagnews", "flagnews-photo")
POOLS = 20


def evaluate_each(
    checkpoint_name: str,
    data: Sequence[str],
    choices: dataset_run.Choices,
    *,
    cache: Path | None = None,
    photos: Path | None = None,
) -> list[dict[str, object] | dataset_run.DataSetResult]:
    """Measure one checkpoint on any number of data sets.

    Args:
        data: `flagnews`, `flagnews-photo`, `KIND:PATH` or prepared folders.

    Raises:
        ValueError: an unknown or unusable data set, or choices that do not fit it.
    """
    for one in data:
        if one not in FLAGNEWS and ":" not in one and not Path(one).exists():
            known = ", ".join(FLAGNEWS)
            raise ValueError(f"unknown data {one!r}: {known}, KIND:PATH or a prepared folder")
    choices = replace(choices, device=choose_device(choices.device))  # a wrong one fails before the work
    loaded = checkpoint.load(checkpoint_name) if set(data) - set(FLAGNEWS) else None
    results: list[dict[str, object] | dataset_run.DataSetResult] = []
    for one in data:
        if one in FLAGNEWS or loaded is None:
            results.append(evaluate(checkpoint_name, one, cache=cache, photos=photos, device=choices.device))
        else:
            folder = cache or flagnews_run.default_cache()
            results.append(dataset_run.evaluate_data_set(loaded, one, choices, folder))
    return results


def evaluate(
    checkpoint_name: str,
    data: str,
    *,
    cache: Path | None = None,
    photos: Path | None = None,
    device: str | None = None,
) -> dict[str, object]:
    """Measure the two plain encoders, as they are served, on FlagNews.

    Args:
        checkpoint_name: a checkpoint directory, or `tiny`.
        data: `flagnews` (drawn scenes) or `flagnews-photo` (real renderings on real photographs).
        photos: for `flagnews-photo`, the folder that holds `pairs.jsonl` and `images/`.
        device: torch device; None for the GPU where there is one.

    Returns:
        A JSON-ready dict: recall by group, yardsticks, how it was measured.

    Raises:
        ValueError: unknown data set or device, or a checkpoint that does not say what it was trained on.
        FileNotFoundError: no photographs at `photos`.
    """
    loaded = checkpoint.load(checkpoint_name)
    encoder = Encoder.of(loaded, device=choose_device(device))
    cache = cache or flagnews_run.default_cache()
    size = encoder.image_size
    if data == "flagnews":
        bank = flagnews_run.held_out_bank(size, POOLS, flagnews_run.TEST_SEED, cache)
        pools = draw_pools(bank, POOLS, flagnews_run.TEST_SEED)
    elif data == "flagnews-photo":
        if photos is None:
            raise ValueError("flagnews-photo needs --photos FOLDER with pairs.jsonl and images/")
        pools = photo_pools(photos, size, POOLS, flagnews_run.TEST_SEED)
    else:
        raise ValueError(f"unknown data {data!r}: flagnews or flagnews-photo")
    facts = FlagNewsFacts.of(loaded.config.training)
    seen = seen_mask(pools[0].look, facts.sampling.unseen_fold)
    return {
        "data": data,
        "model_id": loaded.model_id,
        "generator": generator_hash(),
        "pools": len(pools),
        "looks": len(seen),
        "seen_looks": int(seen.sum()),
        **_measure(encoder, pools, seen),
        "yardsticks": _yardsticks(facts, pools, seen, cache),
    }


def check_recordable(checkpoint_name: str) -> None:
    """Raise ValueError where `record` would have no folder to write into."""
    checkpoint.resolve(checkpoint_name)


def record(checkpoint_name: str, result: dict[str, object]) -> None:
    """Write a result into the checkpoint's `config.json`.

    Args:
        result: of `evaluate`, or the facts of a `DataSetResult`; what names this machine's files is left out.
    """
    folder = checkpoint.resolve(checkpoint_name)
    config = checkpoint.read_config(folder)
    name = f"{result['dataset']}/{result['split']}" if "dataset" in result else str(result["data"])
    here = ("model_id",) if name in FLAGNEWS else ("model_id", "data", "device")
    facts = {key: value for key, value in result.items() if key not in here}
    facts = json.loads(json.dumps(facts), parse_float=lambda digits: round(float(digits), 4))
    checkpoint.write_config(folder, msgspec.structs.replace(config, metrics={**config.metrics, name: facts}))


def _measure(encoder: Encoder, pools: list[Pool], seen: np.ndarray) -> dict[str, object]:
    scores = pool_scores(encoder, pools, flagnews_run.TEST_SEED)
    low, high = SHARE_RANGE
    edges = [low, 0.03, 0.06, 0.12, high + 1e-6]
    without: dict[str, object] = {}
    if encoder.reads_explanations:
        bare = pool_scores(encoder, pools, flagnews_run.TEST_SEED, "empty")
        without = {"recall_without_explanations": by_group(bare, seen)}
    return {
        "recall": by_group(scores, seen),
        **without,
        "seen_image_to_text_R@1_by_share": recall_by_share(scores, pools, seen, edges),
    }


def _yardsticks(facts: FlagNewsFacts, pools: list[Pool], seen: np.ndarray, cache: Path) -> dict[str, object]:
    training = flagnews_run.open_bank(facts.bank, cache)
    return {"chance": chance(len(seen)), "colour_histogram": histogram_recall(training, pools, seen)}
