"""Retrieval metrics from ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KS = (1, 5, 10)


def ranks(queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of every query's own candidate, the strict way: one right answer, ties count against it.

    Args:
        queries, candidates: [N, D] float32, L2-normalised; row i belongs to row i.

    Returns:
        [N] int64 from 1.
    """
    return score_ranks(queries @ candidates.T)


def score_ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """As `ranks`, from a ready [N, N] matrix, queries by candidates."""
    own = np.diagonal(scores)[:, None]
    better: NDArray[np.int64] = (scores >= own).sum(axis=1)  # its own is among them, hence from 1
    return better


def recall(rank: NDArray[np.int64], k: int) -> float:
    """Part of the queries, 0 to 1, whose own candidate is among the first k."""
    return float((rank <= k).mean())


def summarise(rank: NDArray[np.int64], ks: Sequence[int] = KS) -> dict[str, float]:
    """R@k for every k, and the median and mean rank."""
    summary = {f"R@{k}": recall(rank, k) for k in ks}
    return summary | {"median_rank": float(np.median(rank)), "mean_rank": float(rank.mean())}
