"""Ranks and recall against a plain loop, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.calibration import Calibration
from model.evaluation.calibration import best_threshold, fit_matching, fit_platt, stream_pairs
from model.evaluation.retrieval import chance_metrics, rank_metrics, recall, score_ranks
from tests import reference


@given(
    arrays.arrays(
        np.float32, st.integers(1, 8).map(lambda n: (n, n)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])
    )
)
def test_ranks_equal_the_plain_loop_on_tied_scores(scores: np.ndarray) -> None:
    assert score_ranks(scores).tolist() == reference.ranks(scores.tolist())


def test_a_constant_model_has_the_worst_rank() -> None:
    assert score_ranks(np.ones((5, 5), np.float32)).tolist() == [5] * 5


def test_a_model_without_a_vector_has_the_worst_rank() -> None:
    scores = np.eye(3, dtype=np.float32)
    scores[1] = np.nan
    assert score_ranks(scores).tolist() == [1, 3, 1]
    assert score_ranks(scores.T).tolist() == [1, 3, 1]


def test_recall_counts_the_ranks_within_k() -> None:
    rank = np.array([1, 2, 6, 11])
    assert [recall(rank, k) for k in (1, 5, 10)] == [0.25, 0.5, 0.75]


def test_metrics_are_those_of_the_ranks() -> None:
    metrics = rank_metrics(np.array([1, 2, 4, 200]))
    assert metrics == {
        "R@1": 0.25,
        "R@5": 0.75,
        "R@10": 0.75,
        "R@50": 0.75,
        "R@100": 0.75,
        "median_rank": 3.0,
        "mean_rank": 51.75,
        "MRR": pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 200) / 4),
    }


def test_chance_is_the_mean_over_all_ranks() -> None:
    assert chance_metrics(30) == pytest.approx(rank_metrics(np.arange(1, 31)))


def test_platt_scaling_recovers_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-0.5, 0.5, 20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(12 * cosines - 3)))
    slope, intercept = fit_platt(cosines, labels)
    assert slope == pytest.approx(12, rel=0.05)
    assert intercept == pytest.approx(-3, rel=0.05)


def test_platt_scaling_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        fit_platt(np.zeros(3), np.ones(3, bool))


def test_stream_pairs_takes_the_top_hits_of_both_directions() -> None:
    scores = np.array([[0.9, 0.8, 0.0], [0.1, 0.7, 0.2], [0.3, 0.4, 0.6]], np.float32)
    cosines, labels = stream_pairs([scores], np.array([True, True, False]), top_k=1)
    assert cosines.tolist() == pytest.approx([0.9, 0.7, 0.9, 0.8])
    assert labels.tolist() == [True, True, True, False]


def test_the_threshold_is_the_one_of_the_highest_f1() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.2])
    labels = np.array([True, True, False, True, False])
    # F1 down to each: 2/5, 4/6, 4/7, 6/8, 6/9 of four right pairs, one of which no search found
    assert best_threshold(probabilities, labels, positives=4) == 0.6


def test_matching_is_fitted_on_the_kept_looks() -> None:
    rng = np.random.default_rng(0)
    pools = [(0.3 * rng.random((40, 40)) + 0.5 * np.eye(40)).astype(np.float32) for _ in range(3)]
    for pool in pools:
        pool[20:] = 0.9  # what is not kept must not disturb
    fitted = fit_matching(pools, np.arange(40) < 20)
    least_cosine = Calibration.of(fitted).least_cosine()
    assert least_cosine is not None
    assert 0.25 < least_cosine < 0.8
