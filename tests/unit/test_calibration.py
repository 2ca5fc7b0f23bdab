"""A fitted matching section, applied to one pair."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.calibration import Calibration, PairParts
from model.config import MatchingConfig

cosines = st.floats(-1, 1)


@st.composite
def fits(draw: st.DrawFn) -> MatchingConfig:
    """Any fit whose cosine counts, with and without other parts and knots."""
    weights = {"cosine": draw(st.floats(0.5, 100))}
    typical = {}
    for name in ("explanation_similarity", "entity_overlap", "itm"):
        if draw(st.booleans()):
            weights[name] = draw(st.floats(-20, 20))
            typical[name] = draw(st.floats(-2, 2))
    alone = None
    if draw(st.booleans()):
        weights["margin"] = draw(st.floats(0, 50))
        alone = (draw(st.floats(-50, 50)), draw(st.floats(0.5, 100)))
    at = sorted(draw(st.sets(st.integers(-40, 40), max_size=6)))
    values = sorted(draw(st.lists(st.floats(0, 1), min_size=len(at), max_size=len(at))))
    knots = [(place / 2, value) for place, value in zip(at, values, strict=True)]
    reached = st.sampled_from(values) if values else st.floats(0, 1)
    threshold = draw(st.one_of(st.floats(0, 1), reached))  # also just on a plateau
    return MatchingConfig(
        intercept=draw(st.floats(-50, 50)),
        weights=weights,
        typical=typical,
        knots=knots,
        base_rate=draw(st.floats(0.01, 0.99)),
        threshold=threshold,
        alone=alone,
    )


@st.composite
def pairs(draw: st.DrawFn) -> PairParts:
    return PairParts(
        draw(cosines),
        draw(st.none() | st.floats(-1, 1)),
        draw(st.none() | st.floats(0, 1)),
        draw(st.none() | st.floats(-100, 100)),
        draw(st.none() | st.floats(-2, 2)),
    )


@given(fits(), pairs(), cosines)
def test_a_higher_cosine_never_lowers_the_score(
    fitted: MatchingConfig, pair: PairParts, other: float
) -> None:
    calibration = Calibration.of(fitted)
    low, high = sorted((pair.cosine, other))
    scores = [calibration.score(replace(pair, cosine=cosine)) for cosine in (low, high)]
    assert 0 <= scores[0] <= scores[1] <= 1
    assert calibration.own_score(low) <= calibration.own_score(high)


@given(fits(), pairs())
def test_the_search_bound_hides_no_match(fitted: MatchingConfig, pair: PairParts) -> None:
    calibration = Calibration.of(fitted)
    least = calibration.least_cosine()
    if least is not None and calibration.score(pair) >= calibration.threshold:
        assert pair.cosine >= least - 1e-4  # the matcher asks for so much less


@given(fits(), pairs())
def test_no_match_is_ruled_out_before_its_parts_are_known(fitted: MatchingConfig, pair: PairParts) -> None:
    calibration = Calibration.of(fitted)
    before = replace(pair, explanation_similarity=None, itm=None)
    if calibration.score(pair) >= calibration.threshold:
        assert calibration.may_match(before, ("explanation_similarity", "itm"))


@given(fits(), cosines)
def test_contributions_and_intercept_make_the_score(fitted: MatchingConfig, cosine: float) -> None:
    fitted = MatchingConfig(fitted.intercept, fitted.weights, fitted.typical)
    total = fitted.intercept + sum(Calibration.of(fitted).contributions(PairParts(cosine)).values())
    assert Calibration.of(fitted).score(PairParts(cosine)) == pytest.approx(
        1 / (1 + math.exp(-total)) if total > -700 else 0.0
    )


def test_the_search_bound_is_where_the_score_reaches_the_threshold() -> None:
    calibration = Calibration.of(MatchingConfig(intercept=-4, weights={"cosine": 10}, threshold=0.5))
    assert calibration.least_cosine() == pytest.approx(0.4)
    assert calibration.score(PairParts(0.4)) == pytest.approx(0.5)


def test_a_pair_at_the_start_of_a_plateau_has_its_probability() -> None:
    knots = [(0.1, 0.1), (0.7, 0.3), (0.9, 0.3), (1.0, 0.8)]
    fitted = MatchingConfig(intercept=0, weights={"cosine": 1}, knots=knots, threshold=0.3)
    calibration = Calibration.of(fitted)
    assert [calibration.score(PairParts(at)) for at in (0.0, 0.7, 0.8, 0.9, 1.0)] == [0.1, 0.3, 0.3, 0.3, 0.8]
    assert calibration.least_cosine() == pytest.approx(0.1)


@pytest.mark.parametrize(("threshold", "bound"), [(0.05, None), (0.95, 1.0)])
def test_a_threshold_beyond_the_knots_is_met_by_all_or_none(threshold: float, bound: float | None) -> None:
    fitted = MatchingConfig(
        intercept=0, weights={"cosine": 1}, knots=[(0, 0.1), (1, 0.9)], threshold=threshold
    )
    assert Calibration.of(fitted).least_cosine() == bound


@given(st.floats(0.01, 0.99))
def test_a_pair_as_likely_as_any_has_an_own_score_of_one_half(base_rate: float) -> None:
    intercept = math.log(base_rate / (1 - base_rate))
    fitted = MatchingConfig(intercept=intercept, weights={"cosine": 10}, base_rate=base_rate)
    assert Calibration.of(fitted).own_score(0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("base_rate", [1e-12, 1 - 1e-12])
def test_an_own_score_goes_by_the_pair_at_any_base_rate(base_rate: float) -> None:
    intercept = math.log(base_rate) - math.log1p(-base_rate)
    fitted = MatchingConfig(intercept=intercept, weights={"cosine": 5}, base_rate=base_rate)
    calibration = Calibration.of(fitted)
    assert calibration.own_score(-0.5) < 0.1
    assert calibration.own_score(0.5) > 0.9


def test_a_missing_part_counts_as_the_typical_one() -> None:
    fitted = MatchingConfig(weights={"cosine": 10, "itm": 2}, typical={"itm": 1.5})
    calibration = Calibration.of(fitted)
    assert calibration.score(PairParts(0.3)) == calibration.score(PairParts(0.3, itm=1.5))
    assert calibration.needs == {"cosine", "itm"}


def test_a_pair_without_rivals_is_scored_by_its_cosine_alone() -> None:
    fitted = MatchingConfig(-3.0, {"cosine": 1.0, "margin": 20.0}, alone=(-10.0, 20.0))
    assert Calibration.of(fitted).score(PairParts(0.5)) == 0.5
    assert Calibration.of(fitted).score(PairParts(0.5, margin=0.3)) > 0.9
    assert Calibration.of(fitted).own_score(0.5) == 0.5


def test_a_logit_beyond_the_bound_says_nothing_more() -> None:
    calibration = Calibration.of(MatchingConfig(weights={"cosine": 1, "itm": 1}))
    assert calibration.score(PairParts(0, itm=11)) == calibration.score(PairParts(0, itm=math.inf))
