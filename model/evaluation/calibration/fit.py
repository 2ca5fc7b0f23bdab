"""Fitting: Platt's logistic regression over the parts, or isotonic regression on its linear score.

Which parts and which of the two is decided by the log loss on held-out folds of whole groups.

Source: Platt (1999), with his smoothed targets; Zadrozny and Elkan (2002).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from model.config import PARTS, MatchingConfig
from model.evaluation.calibration.pairs import LabelledPairs
from model.evaluation.calibration.quality import losses

Method = Literal["auto", "platt", "isotonic"]
# A part costs time at every search, so one that improves the log loss by less than this share is left out.
LEAST_GAIN = 0.01
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination that was tried.

    Args:
        log_loss: nats, on held-out folds; infinite where it cannot be fitted.
    """

    method: Literal["platt", "isotonic"]
    parts: tuple[str, ...]
    log_loss: float


@dataclass(frozen=True, slots=True)
class Choices:
    """What to fit, and what was tried to find out."""

    method: Literal["platt", "isotonic"]
    parts: tuple[str, ...]
    trials: tuple[Trial, ...]


def choose(pairs: LabelledPairs, method: Method = "auto", parts: Sequence[str] | None = None) -> Choices:
    """Find the parts and the method with the least log loss on held-out folds.

    Parts are added one by one, the most helpful first, while each lowers the loss by at least 1 %.

    Args:
        parts: to use just these, the cosine among them; None tries all that half of the pairs have.

    Raises:
        ValueError: unknown parts, no cosine among them, one kind of label only, or labels that fall with it.
    """
    first = ("cosine",) if parts is None else _checked(pairs, parts)
    fit(pairs, "platt", first)  # what cannot be fitted at all says so here
    trials = [_tried(pairs, "platt", first)]
    best = trials[0]
    while parts is None:
        more = [(*best.parts, name) for name in pairs.common_parts() if name not in best.parts]
        found = [_tried_part(pairs, names) for names in more]
        trials += found
        helpful = [each for each in found if each.log_loss <= best.log_loss * (1 - LEAST_GAIN)]
        if not helpful:
            break
        best = min(helpful, key=lambda trial: trial.log_loss)
    if method == "auto":
        trials.append(_tried(pairs, "isotonic", best.parts))
        method = "isotonic" if trials[-1].log_loss < best.log_loss else "platt"
    return Choices(method, best.parts, tuple(trials))


def fit(
    pairs: LabelledPairs,
    method: Method = "auto",
    parts: Sequence[str] | None = None,
    *,
    threshold: float = 0.5,
) -> MatchingConfig:
    """Fit the matching section of a checkpoint on all pairs.

    Args:
        method, parts: as `choose` takes them; it is asked where they are left open.
        threshold: written as it is; see `model.evaluation.calibration.threshold`.

    Raises:
        ValueError: as `choose`.
    """
    if method == "auto" or parts is None:
        choices = choose(pairs, method, parts)
        method, parts = choices.method, choices.parts
    fitted = _fit(pairs, method, _checked(pairs, parts), threshold)
    if fitted.weights["cosine"] <= 0:
        raise ValueError(
            "right pairs have no higher cosine than wrong ones: inverted labels, or a model that is no use"
        )
    return fitted


def held_out(
    pairs: LabelledPairs, method: Literal["platt", "isotonic"], parts: Sequence[str]
) -> NDArray[np.float64]:
    """The probability of each pair by a fit to the other folds. [N] float64.

    Raises:
        ValueError: as `choose`.
    """
    parts, fold = _checked(pairs, parts), pairs.folds()
    probability = np.empty(len(pairs), np.float64)
    for each in range(int(fold.max()) + 1):
        fitted = _fit(pairs.where(fold != each), method, parts)
        probability[fold == each] = apply(fitted, pairs.where(fold == each))
    return probability


def apply(fitted: MatchingConfig, pairs: LabelledPairs) -> NDArray[np.float64]:
    """What `model.calibration.Calibration.score` says of each pair. [N] float64."""
    linear = _linear(fitted, pairs)
    if fitted.knots:
        at, value = np.array(fitted.knots).T
        found = np.asarray(np.interp(linear, at, value), np.float64)
    else:
        found = _sigmoid(linear)
    if fitted.alone is None or "margin" not in fitted.weights:
        return found
    without = np.isnan(pairs.matrix(("margin",))[:, 0])
    intercept, weight = fitted.alone
    return np.where(without, _sigmoid(intercept + weight * pairs.cosine), found)


def _tried(pairs: LabelledPairs, method: Literal["platt", "isotonic"], parts: tuple[str, ...]) -> Trial:
    return Trial(method, parts, losses(held_out(pairs, method, parts), pairs.label).log_loss)


def _tried_part(pairs: LabelledPairs, parts: tuple[str, ...]) -> Trial:
    """With one more part, which must not turn the cosine against the match."""
    if _fit(pairs, "platt", parts).weights["cosine"] <= 0:
        return Trial("platt", parts, math.inf)
    return _tried(pairs, "platt", parts)


def _checked(pairs: LabelledPairs, parts: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r}: {', '.join(PARTS)}")
    if "cosine" not in parts:
        raise ValueError("the cosine is always one of the parts")
    for name, column in zip(parts, pairs.matrix(parts).T, strict=True):
        if np.isnan(column).all():
            raise ValueError(f"no labelled pair has {name}")
    return tuple(dict.fromkeys(parts))


def _fit(
    pairs: LabelledPairs, method: Literal["platt", "isotonic"], parts: tuple[str, ...], threshold: float = 0.5
) -> MatchingConfig:
    fitted = _platt(pairs, parts, threshold)
    return _with_knots(fitted, pairs) if method == "isotonic" else fitted


def _platt(pairs: LabelledPairs, parts: tuple[str, ...], threshold: float) -> MatchingConfig:
    right = int(pairs.label.sum())
    wrong = len(pairs) - right
    if not right or not wrong:
        raise ValueError("calibration needs pairs of both kinds, right and wrong")
    matrix = pairs.matrix(parts)
    typical = np.array([_median(column) for column in matrix.T])
    filled = np.where(np.isnan(matrix), typical, matrix)
    centre, spread = filled.mean(axis=0), filled.std(axis=0)
    spread[spread == 0] = 1.0
    # A soft target is both labels, weighted: so Platt smooths, and separable labels keep finite weights.
    target = np.where(pairs.label, (right + 1) / (right + 2), 1 / (wrong + 2))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(
        np.tile((filled - centre) / spread, (2, 1)),
        np.repeat([True, False], len(pairs)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    weights = model.coef_[0] / spread
    alone = None if parts == ("cosine",) else _platt(pairs, ("cosine",), threshold)
    return MatchingConfig(
        intercept=_rounded(model.intercept_[0] - weights @ centre),
        weights={name: _rounded(weight) for name, weight in zip(parts, weights, strict=True)},
        typical={
            name: _rounded(value) for name, value in zip(parts, typical, strict=True) if name != "cosine"
        },
        alone=None if alone is None else (alone.intercept, alone.weights["cosine"]),
        base_rate=_rounded(right / len(pairs)),
        threshold=threshold,
    )


def _median(column: NDArray[np.float64]) -> float:
    """Of what is there; 0 where a fold has nothing."""
    present = column[np.isfinite(column)]
    return float(np.median(present)) if len(present) else 0.0


def _rounded(value: float) -> float:
    """Seven significant digits, which is what a person can bear to read."""
    return float(f"{value:.7g}")


def _with_knots(fitted: MatchingConfig, pairs: LabelledPairs) -> MatchingConfig:
    """Isotonic regression in place of the sigmoid; no probability is quite 0 or 1."""
    right = int(pairs.label.sum())
    least, most = 1 / (len(pairs) - right + 2), (right + 1) / (right + 2)
    model = IsotonicRegression(y_min=least, y_max=most, out_of_bounds="clip")
    model.fit(np.round(_linear(fitted, pairs), _DIGITS), pairs.label)
    values = np.maximum.accumulate(np.round(model.y_thresholds_, _DIGITS))
    knots = dict(zip(np.round(model.X_thresholds_, _DIGITS).tolist(), values.tolist(), strict=True))
    return msgspec.structs.replace(fitted, knots=list(knots.items()))


def _linear(fitted: MatchingConfig, pairs: LabelledPairs) -> NDArray[np.float64]:
    total = np.full(len(pairs), fitted.intercept)
    for name, column in zip(fitted.weights, pairs.matrix(list(fitted.weights)).T, strict=True):
        total += fitted.weights[name] * np.where(np.isnan(column), fitted.typical.get(name, 0.0), column)
    return total


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(-np.abs(logit))  # never overflows
    return np.asarray(np.where(logit >= 0, 1, odds) / (1 + odds), np.float64)
