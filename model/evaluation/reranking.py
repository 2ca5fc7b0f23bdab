"""Ranks after the top k of each query were put into a new order by the matching head (variant R)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.evaluation.encoded import EncodedImages, EncodedTexts, SetEncoder
from model.evaluation.exact_scores import Indices
from model.evaluation.ranking import Ranks

_TEXTS_A_CALL = 512


def reranked(
    first: Ranks, top: Indices, logits: NDArray[np.float32], own: Indices, groups: Sequence[Indices] = ()
) -> Ranks:
    """Rank the right answers when only the first k may change places; ties count against them.

    Args:
        first: ranks before.
        top: [N, k] the first k candidates of each query, as `model.evaluation.ranking.top_k` gives them.
        logits: [N, k] their new scores; NaN is the lowest.
        own, groups: as for `model.evaluation.ranking.ranks`.

    Returns:
        [N] ranks; those of queries without a right answer among their k are as they were, and above k.
    """
    scores = np.where(np.isnan(logits), -np.inf, logits)
    mine = top == own[:, None]  # [N, k]
    right = mine.copy()
    for group in groups:
        right |= group[top] == group[own][:, None]
    return Ranks(
        strict=_rank(scores, mine, first.strict),
        duplicate_aware=_rank(scores, right, first.duplicate_aware),
    )


def _rank(scores: NDArray[np.float64], right: NDArray[np.bool_], otherwise: Indices) -> Indices:
    """1 + how many wrong ones of the k score at least as much as the best right one. [N]."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    rank = 1 + ((scores >= best) & ~right).sum(axis=1)
    return np.where(right.any(axis=1), rank, otherwise)


def pair_logits(
    encoder: SetEncoder,
    images: EncodedImages,
    texts: EncodedTexts,
    pairs: Sequence[tuple[Indices, Indices]],
    *,
    on_progress: Callable[[int], object] | None = None,
) -> list[NDArray[np.float32]]:
    """Score lists of image–text pairs by the matching head, each distinct pair once.

    Args:
        pairs: lists of (image numbers, text numbers), of equal and any shape.
        on_progress: called with the number of distinct pairs scored since the last call.

    Returns:
        One array of logits a list, in its shape.
    """
    width = len(images.features)
    keys = [text.astype(np.int64) * width + image for image, text in pairs]
    distinct, place = np.unique(np.concatenate([key.ravel() for key in keys]), return_inverse=True)
    text, image = distinct // width, distinct % width  # sorted by text
    logits = np.empty(len(distinct), np.float32)
    starts = np.flatnonzero(np.r_[True, text[1:] != text[:-1]])[::_TEXTS_A_CALL]
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        logits[start:stop] = encoder.matching_logits(images, texts, image[start:stop], text[start:stop])
        if on_progress is not None:
            on_progress(int(stop - start))
    ends = np.cumsum([key.size for key in keys])[:-1]
    return [part.reshape(key.shape) for part, key in zip(np.split(logits[place], ends), keys, strict=True)]
