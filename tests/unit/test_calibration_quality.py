"""Reliability, intervals and thresholds against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.calibration import (
    best_f1,
    carried_over,
    losses,
    measure,
    precision_recall,
    threshold_for,
    wilson,
)


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    assert wilson(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-5)
    assert wilson(0, 10) == pytest.approx((0, 0.277533), abs=1e-5)
    assert wilson(0, 0) == (0, 1)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_the_rate(counts: tuple[int, int]) -> None:
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1


def test_losses_are_means_over_the_pairs() -> None:
    found = losses(np.array([0.8, 0.4]), np.array([True, False]))
    assert found.brier == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_a_report_compares_with_the_base_rate() -> None:
    labels = np.array([True] * 3 + [False] * 7)
    report = measure(np.where(labels, 0.9, 0.1), labels, bins=2)
    assert report.base_rate == 0.3
    assert report.base.brier == pytest.approx(0.3 * 0.7)
    assert [(each.pairs, each.observed) for each in report.bins] == [(7, 0.0), (3, 1.0)]
    assert report.calibration_error == pytest.approx(0.1)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=60), st.integers(2, 12))
def test_bins_hold_every_pair_once_and_equal_ones_together(values: list[float], bins: int) -> None:
    found = measure(np.array(values), np.ones(len(values), bool), bins).bins
    assert sum(each.pairs for each in found) == len(values)
    assert len(found) <= min(bins, len(set(values)))
    assert [each.predicted for each in found] == sorted(each.predicted for each in found)


def test_bins_are_of_equal_mass() -> None:
    probabilities = np.random.default_rng(0).random(1000) ** 3
    report = measure(probabilities, probabilities > 0.5)
    assert [each.pairs for each in report.bins] == [100] * 10


PROBABILITIES = np.array([0.9, 0.8, 0.7, 0.6, 0.2])
LABELS = np.array([True, True, False, True, False])


def test_the_threshold_is_the_one_of_the_highest_f1() -> None:
    # F1 down to each: 2/5, 4/6, 4/7, 6/8, 6/9 of four right pairs, one of which no search found
    choice = best_f1(PROBABILITIES, LABELS, positives=4)
    assert (choice.threshold, choice.emitted, choice.right) == (0.6, 4, 3)
    assert (choice.precision, choice.recall, choice.coverage) == (0.75, 0.75, 0.8)
    assert choice.f1 == pytest.approx(0.75)


def test_equal_probabilities_are_emitted_together() -> None:
    curve = precision_recall(np.array([0.5, 0.9, 0.5, 0.5]), np.array([True, True, False, False]))
    assert curve.threshold.tolist() == [0.9, 0.5]
    assert curve.emitted.tolist() == [1, 4]
    assert curve.right.tolist() == [1, 2]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.floats(0.3, 0.9))
def test_the_threshold_for_a_precision_is_the_least_that_keeps_it(
    pairs: list[tuple[float, bool]], precision: float
) -> None:
    probabilities, labels = np.array([each[0] for each in pairs]), np.array([each[1] for each in pairs])
    kept = []
    for threshold in probabilities:
        emitted = labels[probabilities >= threshold]
        low, _ = wilson(int(emitted.sum()), len(emitted))
        if emitted.sum() >= precision * len(emitted) and low >= precision - 0.02:
            kept.append(float(threshold))
    choice = threshold_for(probabilities, labels, precision)
    assert (choice is None) == (not kept)
    if choice is not None:
        assert choice.threshold == pytest.approx(min(kept), abs=1e-6)
        assert choice.threshold <= min(kept)


def test_too_few_pairs_keep_no_precision() -> None:
    assert threshold_for(np.linspace(0.5, 1, 20), np.ones(20, bool), 0.95) is None
    assert threshold_for(np.linspace(0.5, 1, 200), np.ones(200, bool), 0.95) is not None


def test_a_choice_is_carried_over_without_crossing_a_step() -> None:
    choice = best_f1(PROBABILITIES, LABELS, positives=4)  # emits four
    stepped = np.array([0.95, 0.95, 0.65, 0.3, 0.3])
    assert carried_over(choice, stepped).threshold == 0.65
    assert carried_over(choice, np.full(5, 0.4)).threshold == 0.4


def test_a_curve_is_sampled_from_its_first_to_its_last_point() -> None:
    probabilities = np.random.default_rng(0).random(500)
    curve = precision_recall(probabilities, probabilities > 0.5)
    sample = curve.sample(11)
    assert len(sample) == 11
    assert (sample[0].emitted, sample[-1].emitted) == (1, 500)
