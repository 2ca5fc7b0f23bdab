"""Retrieval metrics from ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KS = (1, 5, 10)


def score_ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of every query's own candidate, the strict way: one right answer, ties count against it.

    Args:
        scores: [N, N], queries by candidates; the diagonal is right.

    Returns:
        [N] int64 from 1.
    """
    own = np.diagonal(scores)[:, None]
    # not "at least as good" but "not worse": a vector that is NaN must rank last, not first
    not_worse: NDArray[np.int64] = (~(scores < own)).sum(axis=1)  # its own is among them, hence from 1
    return not_worse


def recall(rank: NDArray[np.int64], k: int) -> float:
    """Part of the queries, 0 to 1, whose own candidate is among the first k."""
    return float((rank <= k).mean())
