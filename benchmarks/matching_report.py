"""What `benchmarks.matching_stream` measured, as data and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.matching_posts import Mix
from benchmarks.matching_scores import Emission, Flags
from model.evaluation.calibration import Report

_NOT_REACHED: Mapping[str, Emission | None] = {"all": None}


@dataclass(frozen=True, slots=True)
class Options:
    """What is run.

    Args:
        streams: of each half.
        precision: wanted of the higher threshold.
        rerank: whether the matching head scores candidates too.
        plain: whether the posts are run without explanations too.
        scenes: drawn as backgrounds.
    """

    model: str
    streams: int = 40
    mix: Mix = field(default_factory=Mix)
    top_k: int = 10
    precision: float = 0.95
    rerank: bool = True
    plain: bool = True
    seed: int = 0
    scenes: int = 400


@dataclass(frozen=True, slots=True)
class Variant:
    """What one way of scoring gave on looks that it was not calibrated on.

    Args:
        parts: of each half's calibration.
        quality: of its probabilities; `cosine` the same of Platt on the cosine alone.
        best, precise: by group of looks (`all`, `seen`, `unseen`), at the threshold of the highest F1 and at
            that of the wanted precision, where there is one.
        thresholds: of each half, either kind.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    quality: Report
    cosine: Report
    best: dict[str, Emission]
    precise: dict[str, Emission] | None
    thresholds: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Served:
    """What the worker itself emitted with the calibration of the other half.

    Args:
        best, precise: as `Variant` has them; posts out of context at either threshold.
    """

    best: dict[str, Emission]
    precise: dict[str, Emission] | None
    best_flags: Flags
    precise_flags: Flags | None


@dataclass(frozen=True, slots=True)
class Result:
    """Everything; `posts` and `pairs` of both halves together."""

    model_id: str
    posts: int
    pairs: int
    variants: tuple[Variant, ...]
    served: Served
    seconds: float


def markdown(result: Result, options: Options) -> str:
    """Tables, one below the other."""
    at = f"{100 * options.precision:g} % precision"
    served = result.variants[-1]
    parts = [
        f"Model {result.model_id}, 2 × {options.streams} streams of {options.mix.posts} posts and "
        f"{options.mix.looks} looks ({result.posts} posts, {result.pairs} pairs to be found), "
        f"{options.top_k} hits a search, {result.seconds:.0f} s.",
        "Candidates: losses of the probabilities",
        _losses(result.variants),
        "Emitted at the threshold of the highest F1",
        _emissions({variant.name: variant.best for variant in result.variants}),
        f"Emitted at the threshold of {at}",
        _emissions({variant.name: variant.precise for variant in result.variants}),
        "Emitted by the worker with the calibration in its checkpoint",
        _emissions({"highest F1": result.served.best, at: result.served.precise}),
        f"Reliability of `{served.name}` ({'; '.join(' + '.join(names) for names in served.parts)}), "
        f"expected calibration error {served.quality.calibration_error:.4f}",
        _reliability(served.quality),
        "Out of context: posts whose caption is of another look",
        _flags({"highest F1": result.served.best_flags, at: result.served.precise_flags}),
    ]
    return "\n\n".join(parts)


def _losses(variants: Sequence[Variant]) -> str:
    header = ["scored by", "pairs", "right", "Brier", "base rate", "cosine alone, Platt", "log loss"]
    return _table(
        [*header, "base rate", "cosine alone, Platt", "calibration error"],
        [
            [
                variant.name,
                f"{variant.quality.pairs:,}",
                _percent(variant.quality.base_rate),
                f"{variant.quality.losses.brier:.4f}",
                f"{variant.quality.base.brier:.4f}",
                f"{variant.cosine.losses.brier:.4f}",
                f"{variant.quality.losses.log_loss:.4f}",
                f"{variant.quality.base.log_loss:.4f}",
                f"{variant.cosine.losses.log_loss:.4f}",
                f"{variant.quality.calibration_error:.4f}",
            ]
            for variant in variants
        ],
    )


def _emissions(rows: Mapping[str, dict[str, Emission] | None]) -> str:
    return _table(
        ["", "looks", "emitted", "precision", "at least (Wilson 95 %)", "recall", "coverage"],
        (
            [
                name,
                group,
                f"{found.emitted:,}",
                "–" if found.precision is None else _percent(found.precision),
                _percent(found.low),
                _percent(found.recall),
                _percent(found.coverage),
            ]
            if found is not None
            else [name, "all", "not reached", "–", "–", "–", "–"]
            for name, groups in rows.items()
            for group, found in (groups or _NOT_REACHED).items()
        ),
    )


def _reliability(quality: Report) -> str:
    return _table(
        ["pairs", "predicted", "observed", "95 % interval"],
        [
            [
                f"{each.pairs:,}",
                f"{each.predicted:.4f}",
                f"{each.observed:.4f}",
                f"{each.low:.4f}–{each.high:.4f}",
            ]
            for each in quality.bins
        ],
    )


def _flags(rows: Mapping[str, Flags | None]) -> str:
    header = ["threshold", "swapped", "right", "swapped in a match", "flagged", "precision", "recall"]
    return _table(
        [*header, "recall in a match"],
        [
            [
                name,
                str(found.swapped),
                str(found.right),
                str(found.matched_swapped),
                str(found.flagged),
                _share(found.flagged_swapped, found.flagged),
                _share(found.flagged_swapped, found.swapped),
                _share(found.flagged_swapped, found.matched_swapped),
            ]
            for name, found in rows.items()
            if found is not None
        ],
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(part: int, whole: int) -> str:
    return _percent(part / whole) if whole else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
