"""Fitting scores to probabilities on pairs whose probabilities are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.calibration import Calibration, PairParts
from model.evaluation.calibration import LabelledPairs, apply, choose, fit, held_out, losses
from model.evaluation.calibration.flagnews import stream_pairs


def drawn(count: int, logit: NDArray[np.float64], **parts: NDArray[np.float64]) -> LabelledPairs:
    """Pairs that are right with the probability of a logit, four to a group."""
    label = np.random.default_rng(9).random(count) < 1 / (1 + np.exp(-logit))
    return LabelledPairs(parts.pop("cosine"), label, np.arange(count) // 4, **parts)


@pytest.fixture(scope="module")
def pairs() -> LabelledPairs:
    """The explanation helps, the matching head does not, and half of the pairs have no entities."""
    rng = np.random.default_rng(0)
    cosine, similarity, itm = rng.uniform(-0.5, 0.5, (3, 4000))
    overlap = np.where(rng.random(4000) < 0.4, rng.random(4000), np.nan)
    return drawn(
        4000,
        12 * cosine + 6 * similarity - 3,
        cosine=cosine,
        explanation_similarity=similarity,
        entity_overlap=overlap,
        itm=itm,
    )


def test_platt_scaling_recovers_the_probabilities() -> None:
    cosine = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    fitted = fit(drawn(20_000, 12 * cosine - 3, cosine=cosine), "platt", ("cosine",))
    assert fitted.weights["cosine"] == pytest.approx(12, rel=0.05)
    assert fitted.intercept == pytest.approx(-3, rel=0.05)


def test_parts_that_help_are_found_and_others_left_out(pairs: LabelledPairs) -> None:
    choices = choose(pairs, "platt")
    assert choices.parts == ("cosine", "explanation_similarity")
    assert all("entity_overlap" not in trial.parts for trial in choices.trials)  # most have none
    assert ("cosine", "itm") in [trial.parts for trial in choices.trials]


def test_weights_are_in_the_units_of_the_parts(pairs: LabelledPairs) -> None:
    fitted = fit(pairs, "platt", ("cosine", "explanation_similarity"))
    assert fitted.weights == pytest.approx({"cosine": 12, "explanation_similarity": 6}, rel=0.15)
    assert fitted.base_rate == pytest.approx(pairs.label.mean(), abs=1e-6)


def test_a_part_that_pairs_lack_is_the_median(pairs: LabelledPairs) -> None:
    fitted = fit(pairs, "platt", ("cosine", "entity_overlap"))
    assert pairs.entity_overlap is not None
    assert fitted.typical == pytest.approx({"entity_overlap": np.nanmedian(pairs.entity_overlap)}, abs=1e-6)


def test_isotonic_is_taken_where_the_sigmoid_does_not_fit() -> None:
    cosine = np.random.default_rng(1).uniform(0, 1, 2000)
    stepped = drawn(2000, np.where(cosine > 0.5, 0.5, -3.0), cosine=cosine)
    assert choose(stepped).method == "isotonic"
    assert choose(drawn(2000, 10 * cosine - 5, cosine=cosine)).method == "platt"


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["platt", "isotonic"]), st.integers(0, 2**32 - 1))
def test_what_is_fitted_is_what_is_applied(pairs: LabelledPairs, method: str, seed: int) -> None:
    some = pairs.where(np.random.default_rng([seed, 1]).random(len(pairs)) < 0.05)
    fitted = fit(some, "platt" if method == "platt" else "isotonic", ("cosine", "entity_overlap"))
    calibration = Calibration.of(fitted)
    overlaps = some.matrix(["entity_overlap"])[:, 0].tolist()
    one_by_one = [
        calibration.score(PairParts(cosine, entity_overlap=None if np.isnan(overlap) else overlap))
        for cosine, overlap in zip(some.cosine.tolist(), overlaps, strict=True)
    ]
    assert apply(fitted, some) == pytest.approx(one_by_one, abs=1e-12)
    assert 0 < min(one_by_one) <= max(one_by_one) < 1


def test_separable_labels_have_finite_weights() -> None:
    cosine = np.repeat([0.1, 0.9], 20)
    fitted = fit(LabelledPairs(cosine, cosine > 0.5, np.arange(40)), "platt", ("cosine",))
    assert 0 < fitted.weights["cosine"] < 100


def test_held_out_probabilities_do_not_know_their_group() -> None:
    rng = np.random.default_rng(2)
    group = np.arange(300) // 10
    cosine = rng.random(30)[group]  # that of its group, which alone says nothing
    label = (rng.random(30) < 0.5)[group]
    noise = LabelledPairs(cosine + 0.01 * label, label, group)
    probability = held_out(noise, "isotonic", ("cosine",))
    assert losses(probability, label).log_loss > 0.6
    by_pair = replace(noise, group=np.arange(300))
    assert losses(held_out(by_pair, "isotonic", ("cosine",)), label).log_loss < 0.6


def test_no_group_is_on_both_sides_of_a_fold(pairs: LabelledPairs) -> None:
    fold = pairs.folds()
    assert all(len(set(fold[pairs.group == group])) == 1 for group in range(50))
    assert np.bincount(fold).min() > 700


@pytest.mark.parametrize(
    ("cosine", "label", "message"),
    [
        ([0.1, 0.2, 0.3, 0.4], [True] * 4, "both kinds"),
        ([0.4, 0.3, 0.2, 0.1], [False, False, True, True], "inverted"),
        ([], [], "no labelled pairs"),
    ],
)
def test_labels_that_cannot_be_fitted_are_refused(
    cosine: list[float], label: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(LabelledPairs(np.array(cosine), np.array(label, bool), np.arange(len(cosine))))


@pytest.mark.parametrize(
    ("parts", "message"),
    [(("cosine", "colour"), "unknown part 'colour'"), (("itm",), "always"), (("cosine", "itm"), "has itm")],
)
def test_parts_that_cannot_be_used_are_refused(parts: tuple[str, ...], message: str) -> None:
    bare = LabelledPairs(np.array([0.1, 0.9]), np.array([False, True]), np.arange(2))
    with pytest.raises(ValueError, match=message):
        fit(bare, "platt", parts)


def test_stream_pairs_takes_the_top_hits_of_both_directions() -> None:
    scores = np.array([[0.9, 0.8, 0.0], [0.1, 0.7, 0.2], [0.3, 0.4, 0.6]], np.float32)
    similar = np.arange(9, dtype=np.float32).reshape(3, 3)
    found = stream_pairs([scores], np.array([True, True, False]), 1, [similar])
    assert found.cosine.tolist() == pytest.approx([0.9, 0.7, 0.9, 0.8])
    assert found.label.tolist() == [True, True, True, False]
    assert found.group.tolist() == [0, 1, 0, 1]
    assert found.matrix(["explanation_similarity"])[:, 0].tolist() == [0, 4, 0, 1]
