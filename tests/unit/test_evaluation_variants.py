"""Re-ranked ranks, shuffled explanations, the gate's comparisons and recall curves, on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.comparison import compare
from model.evaluation.dataset_variants import Measured
from model.evaluation.datasets import Explanations, Rows, choose_rows, shown_explanations
from model.evaluation.encoded import EncodedImages
from model.evaluation.plot import recall_curve
from model.evaluation.ranking import Ranks
from model.evaluation.reranking import reranked
from model.rerank import ImageParts

NONE = Ranks(np.array([9, 9]), np.array([8, 8]))


def rows(explanations: list[str]) -> Rows:
    """Rows of nothing but explanations."""
    import torch

    count, nothing = len(explanations), torch.empty(0)
    images = EncodedImages(np.empty((count, 4), np.float32), ImageParts(nothing, nothing, nothing))
    number = np.arange(count)
    return Rows([""] * count, explanations, [""] * count, images, number, number, number)


def test_the_first_k_take_the_order_of_the_logits_and_ties_count_against() -> None:
    top = np.array([[5, 0, 3], [1, 4, 2]])
    logits = np.array([[0.1, 0.7, 0.7], [2.0, 1.0, 3.0]], np.float32)
    found = reranked(NONE, top, logits, np.array([0, 1]))
    assert found.strict.tolist() == [2, 2]


def test_a_right_answer_beyond_the_first_k_keeps_its_rank() -> None:
    found = reranked(NONE, np.array([[5, 3], [1, 4]]), np.ones((2, 2), np.float32), np.array([0, 2]))
    assert (found.strict.tolist(), found.duplicate_aware.tolist()) == ([9, 9], [8, 8])


def test_any_of_a_group_is_right_after_re_ranking_only_in_the_duplicate_aware_form() -> None:
    group = np.array([7, 1, 2, 7, 4, 5])  # candidate 3 is of the same picture as 0
    logits = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], np.float32)
    found = reranked(NONE, np.array([[3, 0, 5], [1, 4, 2]]), logits, np.array([0, 1]), [group])
    assert (found.strict.tolist(), found.duplicate_aware.tolist()) == ([3, 3], [1, 3])


def test_a_pair_without_a_logit_is_last() -> None:
    logits = np.array([[np.nan, 1.0], [np.nan, 1.0]], np.float32)
    found = reranked(NONE, np.array([[0, 1], [1, 0]]), logits, np.array([0, 0]))
    assert found.strict.tolist() == [2, 1]


def test_no_row_keeps_its_explanation_when_they_are_shuffled() -> None:
    given = [f"explanation {row}" for row in range(50)]
    shuffled = shown_explanations(rows(given), "shuffled", seed=3)
    assert sorted(shuffled) == sorted(given)
    assert not any(own == other for own, other in zip(given, shuffled, strict=True))
    assert shuffled == shown_explanations(rows(given), "shuffled", seed=3)


def test_a_limit_draws_distinct_rows_in_their_order() -> None:
    drawn = choose_rows(1000, 50)
    assert len(set(drawn.tolist())) == 50
    assert drawn.tolist() == sorted(drawn.tolist())
    assert choose_rows(10, 50).tolist() == list(range(10))


def measured(variant: str, explanations: Explanations, rate: float) -> Measured:
    """R@k of so much in both directions, for any k, of 400 rows."""
    rank = np.where(np.arange(400) < 400 * rate, 1, 300)
    return Measured(variant, explanations, Ranks(rank, rank), Ranks(rank, rank))


@pytest.mark.parametrize(
    ("true", "shuffled", "helps", "passes"),
    [
        (0.80, 0.40, True, True),
        (0.43, 0.30, True, False),  # above 0, but less than the gate asks for
        (0.80, 0.80, False, False),  # as good with another entity's explanation
        (0.40, 0.20, False, False),
    ],
)
def test_a_variant_passes_when_it_gains_enough_and_true_beats_shuffled(
    true: float, shuffled: float, helps: bool, passes: bool
) -> None:
    found = [measured("P", "none", 0.4), measured("Q", "true", true), measured("Q", "shuffled", shuffled)]
    (comparison,) = compare(found, np.arange(400))
    assert (comparison.helps, comparison.passes) == (helps, passes)
    assert comparison.gain.mean == pytest.approx(true - 0.4)


def test_without_shuffled_explanations_nothing_is_said_to_help() -> None:
    (comparison,) = compare([measured("P", "none", 0.4), measured("R", "true", 0.9)], np.arange(400))
    assert not comparison.helps
    assert "not measured" in comparison.sentence()


def test_the_rows_of_a_picture_are_drawn_together() -> None:
    found = [measured("P", "none", 0.4), measured("Q", "true", 0.5)]
    alone, together = (compare(found, group)[0].gain for group in (np.arange(400), np.arange(400) // 40))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_curve_counts_the_ranks_within_each_k() -> None:
    curve = recall_curve(np.array([5, 1, 2, 2]), np.array([1, 2, 4, 5]))
    assert curve.tolist() == [25.0, 75.0, 75.0, 100.0]
