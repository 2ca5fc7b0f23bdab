"""Precision and recall over the threshold, and the threshold to choose."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibration.quality import wilson

_BELOW = 0.02  # how far below the wanted precision the lower end of its interval may be
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold and what it emits.

    Args:
        threshold: least probability that is emitted.
        emitted: pairs at it or above.
        right: those of them that are right.
        precision: right over emitted; `low` to `high` its 95 % Wilson interval.
        recall: right over all right pairs there are.
        coverage: emitted over all pairs.
    """

    threshold: float
    emitted: int
    right: int
    precision: float
    low: float
    high: float
    recall: float
    coverage: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Every distinct threshold, falling.

    Args:
        threshold: [T] float64.
        emitted, right: [T] int64, as `Choice` has them.
        pairs: all there are.
        positives: all right ones there are.
    """

    threshold: NDArray[np.float64]
    emitted: NDArray[np.int64]
    right: NDArray[np.int64]
    pairs: int
    positives: int

    def at(self, place: int) -> Choice:
        """The choice of one threshold; it is rounded down, so that what it names is emitted."""
        emitted, right = int(self.emitted[place]), int(self.right[place])
        low, high = wilson(right, emitted)
        threshold = _rounded_down(float(self.threshold[place]))
        recall = right / self.positives if self.positives else 0.0
        return Choice(threshold, emitted, right, right / emitted, low, high, recall, emitted / self.pairs)

    def sample(self, count: int) -> list[Choice]:
        """At most so many choices, evenly over what they emit."""
        places = np.searchsorted(self.emitted, np.linspace(self.emitted[0], self.pairs, count))
        return [self.at(int(place)) for place in np.unique(places)]


def precision_recall(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], positives: int | None = None
) -> Curve:
    """All thresholds that tell some of the pairs apart.

    Args:
        probabilities, labels: [N], N > 0, of the pairs looked at.
        positives: right pairs there are, those included that no search found; None for those looked at.
    """
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True))  # of each run of equal ones
    right = np.cumsum(labels[order], dtype=np.int64)[last]
    return Curve(
        falling[last], last + 1, right, len(order), int(right[-1]) if positives is None else positives
    )


def best_f1(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], positives: int | None = None
) -> Choice:
    """The threshold of the highest F1; arguments as `precision_recall` takes them."""
    curve = precision_recall(probabilities, labels, positives)
    return curve.at(int(np.argmax(2 * curve.right / (curve.emitted + curve.positives))))


def threshold_for(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.bool_],
    precision: float,
    positives: int | None = None,
) -> Choice | None:
    """The least threshold that keeps a precision; arguments as `precision_recall` takes them.

    Kept means: what is emitted has it, and the lower end of its 95 % Wilson interval is at most 0.02 below.

    Returns:
        None where no threshold keeps it.
    """
    curve = precision_recall(probabilities, labels, positives)
    for place in np.flatnonzero(curve.right >= precision * curve.emitted)[::-1]:
        choice = curve.at(int(place))
        if choice.low >= precision - _BELOW:
            return choice
    return None


def carried_over(choice: Choice, probabilities: NDArray[np.float64]) -> Choice:
    """The choice in terms of another fit's probabilities of the same pairs.

    Its threshold emits as many of them, or fewer where many share one probability, as those of isotonic
    regression do: the threshold of one fit may lie just above such a step of another.
    """
    values, counts = np.unique(-probabilities, return_counts=True)
    place = int(np.searchsorted(np.cumsum(counts), choice.emitted, side="right")) - 1
    return replace(choice, threshold=_rounded_down(float(-values[max(place, 0)])))


def _rounded_down(threshold: float) -> float:
    steps: int = 10**_DIGITS
    return math.floor(threshold * steps) / steps
