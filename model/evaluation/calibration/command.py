"""`entityclip calibrate`: labelled pairs in, a calibrated checkpoint and its quality out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from model import checkpoint
from model.config import CheckpointConfig, MatchingConfig
from model.device import choose_device
from model.evaluation.calibration.fit import Choices, Method, apply, choose, fit, held_out
from model.evaluation.calibration.flagnews import stream_pairs
from model.evaluation.calibration.labelled import read_labelled
from model.evaluation.calibration.pairs import LabelledPairs
from model.evaluation.calibration.quality import BINS, Losses, Report, losses, measure
from model.evaluation.calibration.threshold import (
    Choice,
    best_f1,
    carried_over,
    precision_recall,
    threshold_for,
)
from model.evaluation.flagnews import pool_scores
from model.evaluation.trained_on import FlagNewsFacts
from model.flagnews.pools import Pool, draw_pools, pool_explanations, seen_mask
from model.serving.encoder import Encoder
from model.training import flagnews_run

POOLS = 4
_CURVE = 101  # points of the precision–recall curve


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fit, and on what.

    Args:
        pairs: files of labelled match records; none for held-out FlagNews pictures.
        precision: to choose the threshold for; None for the one of the highest F1.
        parts: of the score; None for those that help.
        bins: of the reliability.
    """

    pairs: tuple[Path, ...] = ()
    precision: float | None = None
    method: Method = "auto"
    parts: tuple[str, ...] | None = None
    bins: int = BINS


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled pairs and where they are from.

    Args:
        name: `flagnews` or `pairs`.
        positives: right pairs there are; None for those among the pairs.
        bad, first_bad: lines that could not be used.
    """

    name: str
    pairs: LabelledPairs
    positives: int | None = None
    bad: int = 0
    first_bad: str = ""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was fitted and how good it is; every number is of held-out folds.

    Args:
        cosine_alone: losses of Platt's fit to the cosine.
        threshold: the one that is written, and what it emits.
        precision: the one asked for; None where none was.
        reached: whether some threshold keeps that precision; if not, `threshold` is of the highest F1.
        curve: choices over the threshold, falling.
    """

    source: str
    groups: int
    matching: MatchingConfig
    choices: Choices
    report: Report
    cosine_alone: Losses
    threshold: Choice
    precision: float | None
    reached: bool
    curve: tuple[Choice, ...]
    bad: int = 0
    first_bad: str = ""

    def facts(self) -> dict[str, object]:
        """For the checkpoint's `metrics`, in four digits."""
        report, choice = self.report, self.threshold
        facts = {
            "source": self.source,
            "pairs": report.pairs,
            "groups": self.groups,
            "base_rate": report.base_rate,
            "method": self.choices.method,
            "parts": self.choices.parts,
            "brier": report.losses.brier,
            "log_loss": report.losses.log_loss,
            "cosine_alone": asdict(self.cosine_alone),
            "base_rate_alone": asdict(report.base),
            "calibration_error": report.calibration_error,
            "precision": choice.precision,
            "recall": choice.recall,
            "emitted": choice.emitted,
        }
        rounded: dict[str, object] = json.loads(
            json.dumps(facts), parse_float=lambda text: round(float(text), 4)
        )
        return rounded

    def to_json(self) -> bytes:
        """Everything, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def calibrate(
    checkpoint_name: str,
    wanted: Wanted,
    output: Path | None = None,
    *,
    half: bool = False,
    cache: Path | None = None,
    device: str | None = None,
) -> Calibrated:
    """Fit scores to probabilities and write the checkpoint with them.

    Args:
        output: folder of the written checkpoint; None for the one that is read.
        half: store the weights as float16, which makes another model of it.
        device: torch device for FlagNews; None for the GPU where there is one.

    Raises:
        ValueError: pairs that cannot be used or fitted, or without any a checkpoint not trained on FlagNews.
        OSError: a file cannot be read or written.
    """
    folder = checkpoint.resolve(checkpoint_name)
    config = checkpoint.read_config(folder)
    source = _labelled(wanted.pairs, folder) if wanted.pairs else flagnews_source(folder, cache, device)
    found = fitted(source, wanted)
    metrics = {**config.metrics, "calibration": found.facts()}
    _write(
        folder,
        output or folder,
        msgspec.structs.replace(config, matching=found.matching, metrics=metrics),
        half,
    )
    return found


def fitted(source: Source, wanted: Wanted) -> Calibrated:
    """Choose, fit and measure.

    Raises:
        ValueError: the pairs cannot be fitted.
    """
    pairs, label = source.pairs, source.pairs.label
    choices = choose(pairs, wanted.method, wanted.parts)
    probabilities = held_out(pairs, choices.method, choices.parts)
    kept = None
    if wanted.precision is not None:
        kept = threshold_for(probabilities, label, wanted.precision, source.positives)
    matching = fit(pairs, choices.method, choices.parts)
    choice = kept or best_f1(probabilities, label, source.positives)
    choice = carried_over(choice, apply(matching, pairs))
    return Calibrated(
        source=source.name,
        groups=pairs.groups,
        matching=msgspec.structs.replace(matching, threshold=choice.threshold),
        choices=choices,
        report=measure(probabilities, label, wanted.bins),
        cosine_alone=losses(held_out(pairs, "platt", ("cosine",)), label),
        threshold=choice,
        precision=wanted.precision,
        reached=wanted.precision is None or kept is not None,
        curve=tuple(precision_recall(probabilities, label, source.positives).sample(_CURVE)),
        bad=source.bad,
        first_bad=source.first_bad,
    )


def _labelled(paths: Sequence[Path], folder: Path) -> Source:
    read = read_labelled(paths, checkpoint.model_id(folder))
    return Source("pairs", read.pairs, bad=read.bad, first_bad=read.first_bad)


def flagnews_source(folder: Path, cache: Path | None = None, device: str | None = None) -> Source:
    """The validation's pictures, which are not those that `evaluate` reports; only seen looks count.

    Raises:
        ValueError: the checkpoint was not trained on FlagNews.
    """
    facts = FlagNewsFacts.of(checkpoint.read_config(folder).training)
    encoder = Encoder.of(checkpoint.load(folder), device=choose_device(device))
    seed = flagnews_run.VALIDATION_SEED
    bank = flagnews_run.held_out_bank(encoder.image_size, POOLS, seed, cache or flagnews_run.default_cache())
    pools = draw_pools(bank, POOLS, seed)
    seen = seen_mask(pools[0].look, facts.sampling.unseen_fold)
    pairs = stream_pairs(
        pool_scores(encoder, pools, seed),
        seen,
        explanation_similarity=[
            _similarities(encoder, pool, seed * 1000 + at) for at, pool in enumerate(pools)
        ],
    )
    return Source("flagnews", pairs, positives=2 * len(pools) * int(seen.sum()))


def _similarities(encoder: Encoder, pool: Pool, seed: int) -> NDArray[np.float32]:
    """Cosines of every picture with every explanation alone, the one that `pool_scores` gives. [L, L]."""
    explanations = encoder.encode_texts(pool_explanations(pool, "true", seed))
    return encoder.encode_images(pool.pixels) @ explanations.T


def _write(folder: Path, output: Path, config: CheckpointConfig, half: bool) -> None:
    """The weights are copied as they are, or not touched at all, unless their precision changes."""
    if half:
        checkpoint.save(output, checkpoint.load(folder).model, config, dtype=torch.float16)
        return
    if not (output.is_dir() and output.samefile(folder)):
        output.mkdir(parents=True, exist_ok=True)
        part = output / (checkpoint.WEIGHTS_NAME + ".part")
        shutil.copyfile(folder / checkpoint.WEIGHTS_NAME, part)
        part.replace(output / checkpoint.WEIGHTS_NAME)
    checkpoint.write_config(output, config)
