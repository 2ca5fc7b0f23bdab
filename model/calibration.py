"""From the parts of a pair's score to a probability that text and picture are about the same entity.

A linear score over the parts, then Platt's sigmoid or the steps of isotonic regression. Parts are the same
whichever side searched, so a pair has one score; all but the margin are functions of the pair alone.
`model.evaluation.calibration` fits it.

Source: Platt (1999); Zadrozny and Elkan (2002).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from model.config import PARTS, MatchingConfig

_ITM_BOUND = 10.0  # a logit beyond it says nothing more
# Least and largest value of a part; the cosine's own is left out, for it is what is asked for.
_RANGE = {
    "margin": (-2.0, 2.0),
    "explanation_similarity": (-1.0, 1.0),
    "entity_overlap": (0.0, 1.0),
    "itm": (-_ITM_BOUND, _ITM_BOUND),
}
_EXTREME = 1e-6
_ROUNDING = 1e-9  # of a linear score
_SURE = 1e-9  # so near 0 or 1 a probability's logit is lost in rounding


@dataclass(frozen=True, slots=True)
class PairParts:
    """What a pair's score is made of; None where the pair does not have it.

    Args:
        cosine: of the picture's vector and the text's, -1 to 1.
        margin: cosine less that of the nearest rival pair in the store, of the same text with another picture
            or the same picture with another text; None where there is no rival.
        explanation_similarity: cosine of the picture's vector and that of the explanation alone, -1 to 1.
        entity_overlap: of the entities that the two posts name, Jaccard, 0 to 1; None where one names none.
        itm: logit of a match by the matching head.
    """

    cosine: float
    explanation_similarity: float | None = None
    entity_overlap: float | None = None
    itm: float | None = None
    margin: float | None = None

    def __iter__(self) -> Iterator[float | None]:
        """The parts in the order of `model.config.PARTS`."""
        rest = (self.explanation_similarity, self.entity_overlap, bounded_itm(self.itm))
        return iter((self.cosine, self.margin, *rest))


def bounded_itm(logit: float | None) -> float | None:
    """The logit as it is scored, -10 to 10."""
    return None if logit is None else min(max(logit, -_ITM_BOUND), _ITM_BOUND)


@dataclass(frozen=True)  # without slots, so that what thousands of pairs a second ask can be kept
class Calibration:
    """A fitted `MatchingConfig`, applied.

    Args:
        threshold: least probability of a match, in place of the fitted one.
    """

    fitted: MatchingConfig
    threshold: float

    @classmethod
    def of(cls, fitted: MatchingConfig, threshold: float | None = None) -> Calibration:
        """As fitted, or with another threshold."""
        return cls(fitted, fitted.threshold if threshold is None else threshold)

    @cached_property
    def needs(self) -> frozenset[str]:
        """The parts that the score depends on."""
        return frozenset(name for name, weight in self.fitted.weights.items() if weight)

    def contributions(self, parts: PairParts) -> dict[str, float]:
        """What each part adds to the linear score."""
        values = dict(zip(PARTS, parts, strict=True))
        applied = self._applied(parts)
        return {name: applied._added(name, values[name]) for name in applied.fitted.weights}

    def score(self, parts: PairParts) -> float:
        """The probability that the pair is about the same entity, 0 to 1, at the prior it was fitted at.

        Where the margin counts and a pair has no rival, its cosine decides alone.
        """
        return self._applied(parts)._probability(self._linear(parts))

    def own_score(self, cosine: float) -> float:
        """The probability that a post's own text and picture belong together, 0 to 1.

        The score at even odds in place of the fitted base rate: before looking, a post's own pair is as
        likely right as wrong, unlike one candidate of a stream's many.
        """
        alone = self.alone()
        logit = alone._linear(PairParts(cosine))
        if alone.fitted.knots:
            logit = _logit(min(max(alone._probability(logit), _EXTREME), 1 - _EXTREME))
        return sigmoid(logit - _logit(self.fitted.base_rate))

    def alone(self) -> Calibration:
        """By the cosine alone, with the same threshold: for pairs whose rivals are not known."""
        return self._alone

    @cached_property
    def _alone(self) -> Calibration:
        if self.fitted.alone is None:
            return self
        intercept, weight = self.fitted.alone
        fitted = MatchingConfig(intercept, {"cosine": weight}, base_rate=self.fitted.base_rate)
        return replace(self, fitted=fitted)

    def may_match(self, parts: PairParts, unknown: Collection[str] = ()) -> bool:
        """Whether a pair may reach the threshold, whatever its unknown parts turn out to be."""
        least = self._least_linear()
        if least is None or self.score(parts) >= self.threshold:
            return True
        values = dict(zip(PARTS, parts, strict=True))
        most = sum(
            self._most(name) if name in unknown else self._added(name, values[name])
            for name in self.fitted.weights
        )
        return self.fitted.intercept + most >= least - _ROUNDING

    def least_cosine(self) -> float | None:
        """The cosine below which no pair reaches the threshold, whatever its other parts; None: no bound."""
        weight = self.fitted.weights.get("cosine", 0.0)
        needed = self._least_linear()
        if weight <= 0 or needed is None:
            return None
        others = sum(self._most(name) for name in self.fitted.weights if name != "cosine")
        least = (needed - self.fitted.intercept - others) / weight
        if self.fitted.alone is None:
            return least
        without_rivals = self.alone().least_cosine()
        return None if without_rivals is None else min(least, without_rivals)

    def _applied(self, parts: PairParts) -> Calibration:
        return self.alone() if parts.margin is None and "margin" in self.needs else self

    def _typical(self, name: str) -> float:
        return self.fitted.typical.get(name, 0.0)

    def _added(self, name: str, value: float | None) -> float:
        return self.fitted.weights[name] * (self._typical(name) if value is None else value)

    def _most(self, name: str) -> float:
        """The most that a part can add to the linear score."""
        return max(self.fitted.weights[name] * value for value in (*_RANGE[name], self._typical(name)))

    def _linear(self, parts: PairParts) -> float:
        return self._applied(parts).fitted.intercept + sum(self.contributions(parts).values())

    def _probability(self, linear: float) -> float:
        return _interpolated(self.fitted.knots, linear) if self.fitted.knots else sigmoid(linear)

    def _least_linear(self) -> float | None:
        """The least linear score whose probability reaches the threshold; None where it cannot be told."""
        if not self.fitted.knots:
            return _logit(self.threshold) if _SURE < self.threshold < 1 - _SURE else None
        # Between the last knot below and the next one the threshold is reached: the first of them is safe.
        below = [knot for knot in self.fitted.knots if knot[1] < self.threshold]
        return below[-1][0] if below else None


def _interpolated(knots: list[tuple[float, float]], linear: float) -> float:
    """Piecewise linear between the knots, constant beyond them."""
    place = bisect.bisect_left(knots, (linear,))
    if place == len(knots):
        return knots[-1][1]
    x1, y1 = knots[place]
    if place == 0 or linear == x1:
        return y1  # as it was fitted: rounding must not put it below a threshold that equals it
    x0, y0 = knots[place - 1]
    return min(y0 + (y1 - y0) * (linear - x0) / (x1 - x0), y1)


def sigmoid(logit: float) -> float:
    """The probability of a logit."""
    odds = math.exp(-abs(logit))  # never overflows
    return 1 / (1 + odds) if logit >= 0 else odds / (1 + odds)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
