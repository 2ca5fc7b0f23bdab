"""Labelled pairs from held-out FlagNews pools: what a matcher would look at in a stream of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibration.pairs import LabelledPairs

TOP_K = 5


def stream_pairs(
    scores: Sequence[NDArray[np.float32]],
    kept: NDArray[np.bool_],
    top_k: int = TOP_K,
    explanation_similarity: Sequence[NDArray[np.float32]] | None = None,
) -> LabelledPairs:
    """Each query's top hits, right and wrong, in both directions; the looks of the texts are the groups.

    Args:
        scores: one [L, L] matrix of cosines a pool, images by texts, right pairs on the diagonal.
        kept: [L] which rows and columns take part.
        top_k: hits a query.
        explanation_similarity: like `scores`, of the images and the texts' explanations alone.
    """
    chosen: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    parts = [matrix[np.ix_(kept, kept)] for matrix in scores]
    for part in parts:
        own = np.broadcast_to(np.arange(len(part))[:, None], (len(part), min(top_k, len(part)))).ravel()
        by_image = np.argsort(-part, axis=1)[:, :top_k].ravel()
        by_text = np.argsort(-part.T, axis=1)[:, :top_k].ravel()
        chosen.append((np.concatenate([own, by_text]), np.concatenate([by_image, own])))

    def picked(matrices: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        cells = [matrix[at] for matrix, at in zip(matrices, chosen, strict=True)]
        return np.concatenate(cells).astype(np.float64)

    similar = explanation_similarity
    return LabelledPairs(
        cosine=picked(parts),
        label=np.concatenate([image == text for image, text in chosen]),
        margin=picked([_margins(part) for part in parts]),
        group=np.concatenate([text for _, text in chosen]),
        explanation_similarity=None
        if similar is None
        else picked([matrix[np.ix_(kept, kept)] for matrix in similar]),
    )


def _margins(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each cosine less the best other one of its row and of its column. [I, T] -> the same."""
    rival = np.maximum(_best_other(scores), _best_other(scores.T).T)
    return np.asarray(scores - rival, np.float32)


def _best_other(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest other value of each row. [N, M] -> the same, M at least 2."""
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    return np.asarray(np.where(scores == first[:, None], second[:, None], first[:, None]), np.float32)
