"""Retrieval metrics from ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KS = (1, 5, 10)
DATA_SET_KS = (1, 5, 10, 50, 100)


def score_ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of every query's own candidate, the strict way: one right answer, ties count against it.

    For a matrix that is at hand; `model.evaluation.ranking` does the same from vectors, a chunk at a time.

    Args:
        scores: [N, N], queries by candidates; the diagonal is right. NaN is the lowest score.

    Returns:
        [N] int64 from 1.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    as_good: NDArray[np.int64] = (known >= np.diagonal(known)[:, None]).sum(axis=1)
    return as_good  # its own is among them, hence from 1


def recall(rank: NDArray[np.int64], k: int) -> float:
    """Part of the queries, 0 to 1, whose own candidate is among the first k."""
    return float((rank <= k).mean())


def rank_metrics(rank: NDArray[np.int64], ks: Sequence[int] = DATA_SET_KS) -> dict[str, float]:
    """R@k, median and mean rank, and mean reciprocal rank of [N] ranks."""
    return {
        **{f"R@{k}": recall(rank, k) for k in ks},
        "median_rank": float(np.median(rank)),
        "mean_rank": float(rank.mean()),
        "MRR": float((1 / rank).mean()),
    }


def chance_metrics(candidates: int, ks: Sequence[int] = DATA_SET_KS) -> dict[str, float]:
    """What `rank_metrics` gives on average for a blind guess with one right answer."""
    return {
        **{f"R@{k}": min(1.0, k / candidates) for k in ks},
        "median_rank": (candidates + 1) / 2,
        "mean_rank": (candidates + 1) / 2,
        "MRR": float((1 / np.arange(1, candidates + 1)).mean()),
    }
