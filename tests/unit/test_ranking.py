"""Chunked ranks and top k against the full matrix: random and tied scores, any chunk, groups, no vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.exact_scores import Scores
from model.evaluation.ranking import ranks, top_k

KINDS = ("random", "tied", "repeated", "gaps")


def full_matrix(queries: np.ndarray, candidates: np.ndarray) -> list[list[float]]:
    """Every score in exact integer arithmetic, -inf where a vector is missing; one unit is 2^-52."""

    def grid(row: np.ndarray) -> list[int] | None:
        return [round(float(x) * 2**26) for x in row] if np.isfinite(row).all() else None

    def product(left: list[int] | None, right: list[int] | None) -> float:
        if left is None or right is None:
            return -np.inf
        return float(sum(x * y for x, y in zip(left, right, strict=True)))

    columns = [grid(row) for row in candidates]
    return [[product(grid(row), column) for column in columns] for row in queries]


def naive_ranks(
    scores: list[list[float]], own: list[int], groups: list[np.ndarray]
) -> tuple[list[int], list[int]]:
    """Strict and duplicate-aware ranks, one query at a time."""
    strict, aware = [], []
    for row, mine in zip(scores, own, strict=True):
        strict.append(sum(score >= row[mine] for score in row))
        right = [j == mine or any(group[j] == group[mine] for group in groups) for j in range(len(row))]
        best = max(score for score, is_right in zip(row, right, strict=True) if is_right)
        wrong = [score for score, is_right in zip(row, right, strict=True) if not is_right]
        aware.append(1 + sum(score >= best for score in wrong))
    return strict, aware


def vectors(rng: np.random.Generator, count: int, width: int, kind: str) -> np.ndarray:
    made: np.ndarray = rng.normal(size=(count, width)).astype(np.float32)
    if kind == "tied":
        made = rng.choice([-1.0, 0.0, 1.0], (count, width)).astype(np.float32)
        made[~made.any(axis=1)] = 1.0
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    if kind == "repeated":
        made = made[rng.integers(0, max(1, count // 3), count)]
    if kind == "gaps":
        made[rng.random(count) < 0.3] = np.nan
    return made


@given(
    seed=st.integers(0, 2**32 - 1),
    query_count=st.integers(1, 12),
    candidate_count=st.integers(1, 20),
    kind=st.sampled_from(KINDS),
    budget=st.integers(1, 5000),
)
@settings(max_examples=150, deadline=None)
def test_ranks_and_top_k_equal_the_full_matrix_whatever_the_chunks(
    seed: int, query_count: int, candidate_count: int, kind: str, budget: int
) -> None:
    rng = np.random.default_rng(seed)
    queries, candidates = vectors(rng, query_count, 7, kind), vectors(rng, candidate_count, 7, kind)
    own = rng.integers(0, candidate_count, query_count)
    groups = [rng.integers(0, 1 + candidate_count // 2, candidate_count) for _ in range(rng.integers(0, 3))]
    expected = full_matrix(queries, candidates)
    scores = Scores(queries, candidates, budget_bytes=budget)
    found = ranks(scores, own, groups)
    assert (found.strict.tolist(), found.duplicate_aware.tolist()) == naive_ranks(
        expected, own.tolist(), groups
    )
    k = int(rng.integers(1, candidate_count + 1))
    order = [sorted(range(candidate_count), key=lambda j: (-row[j], j))[:k] for row in expected]
    assert top_k(scores, k).tolist() == order


def test_equal_pictures_tie_in_every_chunk() -> None:
    rng = np.random.default_rng(0)
    queries = vectors(rng, 64, 512, "random")
    candidates = np.tile(vectors(rng, 64, 512, "random"), (5, 1))  # each five times, far apart
    for budget in (1 << 14, 1 << 20, 1 << 26):
        strict = ranks(Scores(queries, candidates, budget_bytes=budget), np.arange(64)).strict
        assert (strict % 5 == 0).all()


def test_scores_are_the_cosines_to_float32_precision() -> None:
    rng = np.random.default_rng(1)
    queries, candidates = vectors(rng, 9, 512, "random"), vectors(rng, 11, 512, "random")
    ((_, _, block),) = Scores(queries, candidates).blocks()
    exact = queries.astype(np.float64) @ candidates.astype(np.float64).T
    np.testing.assert_allclose(block.numpy() / 2.0**52, exact, atol=1e-7)


def test_long_and_short_vectors_are_ranked_as_well() -> None:
    rng = np.random.default_rng(2)
    queries = (1e-6 * vectors(rng, 9, 16, "random")).astype(np.float32)
    candidates = (300 * vectors(rng, 11, 16, "random")).astype(np.float32)
    expected = np.argsort(-(queries.astype(np.float64) @ candidates.T.astype(np.float64)), axis=1)
    assert top_k(Scores(queries, candidates), 11).tolist() == expected.tolist()


def test_other_captions_of_a_picture_count_against_only_in_the_strict_form() -> None:
    texts = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    image = np.array([[1, 0]], np.float32)
    picture = np.array([0, 0, 1])  # the second caption is of the same picture
    found = ranks(Scores(image, texts), np.array([1]), [picture])
    assert (found.strict.tolist(), found.duplicate_aware.tolist()) == ([2], [1])


def test_a_constant_model_has_the_worst_rank_and_the_first_of_equals_on_top() -> None:
    same = np.full((6, 4), 0.5, np.float32)
    scores = Scores(same, same, budget_bytes=500)
    assert ranks(scores, np.arange(6)).strict.tolist() == [6] * 6
    assert top_k(scores, 3).tolist() == [[0, 1, 2]] * 6


def test_a_query_without_a_vector_has_the_worst_rank_and_harms_no_other() -> None:
    queries, candidates = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    queries[1] = np.nan
    assert ranks(Scores(queries, candidates), np.arange(3)).strict.tolist() == [1, 3, 1]
    assert ranks(Scores(candidates, queries), np.arange(3)).strict.tolist() == [1, 3, 1]


def test_read_only_vectors_are_ranked() -> None:
    eye = np.eye(4, dtype=np.float32)
    eye.flags.writeable = False
    assert ranks(Scores(eye, eye), np.arange(4)).strict.tolist() == [1] * 4


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_beyond_the_pool_is_refused(k: int) -> None:
    eye = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match=f"the top {k} of 3 candidates"):
        top_k(Scores(eye, eye), k)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to rank"):
        Scores(np.empty((0, 4), np.float32), np.ones((2, 4), np.float32))


def test_progress_adds_up_to_every_score() -> None:
    rng = np.random.default_rng(3)
    scores = Scores(vectors(rng, 30, 8, "random"), vectors(rng, 50, 8, "random"), budget_bytes=4000)
    seen: list[int] = []
    ranks(scores, np.arange(30), on_progress=seen.append)
    assert len(seen) > 1
    assert sum(seen) == 30 * 50


@pytest.mark.slow
def test_a_million_candidates_need_less_than_4_gib_beyond_their_vectors() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "benchmarks/evaluate_million.py", "--queries", "500", "--json"]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["candidates"] == 1_000_000
    assert measured["beyond_vectors_gib"] < 4
