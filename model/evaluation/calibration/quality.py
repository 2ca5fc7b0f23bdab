"""How good probabilities are: Brier score, log loss and equal-mass reliability with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
_Z = 1.959964  # of a two-sided 95 % interval
_EXTREME = 1e-12


@dataclass(frozen=True, slots=True)
class Losses:
    """Less is better.

    Args:
        brier: mean squared error of the probability, 0 to 1.
        log_loss: mean negative log-likelihood, nats.
    """

    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of about one probability.

    Args:
        predicted: their mean probability.
        observed: the part of them that is right; `low` to `high` its 95 % Wilson interval.
    """

    pairs: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """How good the probabilities of labelled pairs are.

    Args:
        right: pairs that are right.
        base: losses of the base rate as everybody's probability.
        losses: of the probabilities.
        calibration_error: mean distance of a bin's two rates, weighted by its pairs.
        bins: reliability, rising, of about equally many pairs; equal probabilities stay together.
        histogram: pairs in each twentieth from 0 to 1.
    """

    pairs: int
    right: int
    base: Losses
    losses: Losses
    calibration_error: float
    bins: tuple[Bin, ...]
    histogram: tuple[int, ...]

    @property
    def base_rate(self) -> float:
        """The part of the pairs that is right."""
        return self.right / self.pairs


def losses(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> Losses:
    """Brier score and log loss. [N] float64, [N] bool."""
    of_label = np.where(labels, probabilities, 1 - probabilities)
    log_loss = -np.log(np.clip(of_label, _EXTREME, 1)).mean()
    return Losses(float(((1 - of_label) ** 2).mean()), float(log_loss))


def measure(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = BINS) -> Report:
    """Compare probabilities with what was right.

    Args:
        probabilities: [N] float64, 0 to 1, N > 0; of pairs that they were not fitted to.
        labels: [N] bool.
    """
    right = int(labels.sum())
    base = np.full(len(labels), right / len(labels))
    found = reliability(probabilities, labels, bins)
    error = sum(each.pairs * abs(each.predicted - each.observed) for each in found) / len(labels)
    counts, _ = np.histogram(probabilities, bins=20, range=(0, 1))
    return Report(
        len(labels),
        right,
        losses(base, labels),
        losses(probabilities, labels),
        error,
        tuple(found),
        tuple(counts.tolist()),
    )


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Equal-mass bins, rising; fewer where many pairs have one probability."""
    order = np.argsort(probabilities, kind="stable")
    ordered, right = probabilities[order], labels[order]
    ends = np.linspace(0, len(order), bins + 1).round().astype(np.int64)[1:]
    ends = np.unique(np.searchsorted(ordered, ordered[ends[ends > 0] - 1], side="right"))
    starts = [0, *ends[:-1].tolist()]
    return [_bin(ordered[a:b], right[a:b]) for a, b in zip(starts, ends.tolist(), strict=True)]


def _bin(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> Bin:
    low, high = wilson(int(labels.sum()), len(labels))
    return Bin(len(labels), float(probabilities.mean()), float(labels.mean()), low, high)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a rate; 0 to 1 where n is 0.

    Source: Wilson (1927).
    """
    if not n:
        return 0.0, 1.0
    rate, square = successes / n, _Z * _Z
    centre = (rate + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
