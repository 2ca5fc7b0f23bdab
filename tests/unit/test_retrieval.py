"""Ranks and recall against a plain loop, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

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
