"""The gate's question on a data set: does more than the two plain encoders help, and enough to be served?

Seen and unseen entities are not told apart here, so the thresholds apply to all queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from model.evaluation.dataset_variants import Measured
from model.evaluation.exact_scores import Indices
from model.evaluation.gate import MIN_RERANK_GAIN, MIN_UNSEEN_GAIN, Interval, Tally, paired_bootstrap

_BASELINES = {"C": "P", "Q": "P", "R": "P", "QR": "Q"}
_CRITERION = {"C": (10, MIN_UNSEEN_GAIN), "Q": (10, MIN_UNSEEN_GAIN)}
_RERANKED = (1, MIN_RERANK_GAIN)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant with true explanations against its baseline, at the gate's k.

    Args:
        gain: duplicate-aware R@k over the baseline, both directions together.
        over_shuffled: over the same variant with shuffled explanations; None where it was not measured.
        least_gain: what the gate asks for.
    """

    variant: str
    baseline: str
    k: int
    gain: Interval
    over_shuffled: Interval | None
    least_gain: float

    @property
    def helps(self) -> bool:
        """The interval of the gain is above 0 and true explanations beat shuffled ones."""
        return self.gain.above_zero and self.over_shuffled is not None and self.over_shuffled.above_zero

    @property
    def passes(self) -> bool:
        """It helps, and by as much as the gate asks for."""
        return self.helps and self.gain.mean >= self.least_gain

    def sentence(self) -> str:
        """The verdict and its numbers, in points."""
        verdict = "passes" if self.passes else "helps, but not enough" if self.helps else "does not help"
        shuffled = "not measured" if self.over_shuffled is None else str(self.over_shuffled)
        return (
            f"{self.variant} {verdict}: R@{self.k} {self.gain} over {self.baseline} "
            f"(needs {100 * self.least_gain:+.0f}), true over shuffled explanations {shuffled}"
        )

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "helps": self.helps, "passes": self.passes, "sentence": self.sentence()}


def compare(measured: Sequence[Measured], image_group: Indices) -> list[Comparison]:
    """Compare every variant that read true explanations.

    Args:
        measured: of one set of rows.
        image_group: [N] int64; the rows of one picture are drawn together by the bootstrap.
    """
    found = {(each.variant, each.explanations): each for each in measured}
    comparisons = []
    for variant, first in _BASELINES.items():
        baseline = found.get((first, "none" if first == "P" else "true"))
        candidate, shuffled = found.get((variant, "true")), found.get((variant, "shuffled"))
        if candidate is None or baseline is None:
            continue
        k, least = _CRITERION.get(variant, _RERANKED)
        hits, others = (_tally(each, image_group, k) for each in (candidate, baseline))
        over = None if shuffled is None else paired_bootstrap(hits, _tally(shuffled, image_group, k))
        comparisons.append(Comparison(variant, first, k, paired_bootstrap(hits, others), over, least))
    return comparisons


def _tally(measured: Measured, group: Indices, k: int) -> Tally:
    """Hits among the first k, both directions, by group."""
    _, number = np.unique(group, return_inverse=True)
    hits = [ranks.duplicate_aware <= k for ranks in (measured.image_to_text, measured.text_to_image)]
    tries = np.bincount(number, weights=np.full(len(group), 2.0))
    found = np.bincount(number, weights=np.sum(hits, axis=0, dtype=np.float64))
    return Tally(found.astype(np.float64), tries.astype(np.float64))
