"""Retrieval on FlagNews by the vectors of both ways, from the same JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.evaluation.retrieval import recall, score_ranks
from model.flagnews.pools import draw_pools, pool_explanations
from model.serving.stream import RawPost
from model.training.flagnews_run import TEST_SEED, default_cache, held_out_bank
from worker.bench.naive import PlainVectors
from worker.bench.posts import to_jpeg

_SCALE = 3  # files are so many times the model's input, so that both ways shrink them
_KS = (1, 10)


@dataclass(frozen=True, slots=True)
class RecallPair:
    """One metric by both ways, 0 to 1.

    Args:
        changed: part of the queries that hit by one way and miss by the other.
    """

    name: str
    reference: float
    ours: float
    changed: float


def compare_recall(
    image_size: int,
    pools: int,
    reference: Callable[[Sequence[RawPost]], PlainVectors],
    ours: Callable[[Sequence[RawPost]], PlainVectors],
    cache: Path | None = None,
) -> list[RecallPair]:
    """Recall of pictures among texts and of texts among pictures, all looks together.

    Args:
        image_size: of the model; pictures are drawn at three times that size (kept in the cache).
    """
    bank = held_out_bank(image_size * _SCALE, pools, TEST_SEED, cache or default_cache())
    drawn = draw_pools(bank, pools, TEST_SEED)
    ranks: dict[str, list[NDArray[np.int64]]] = {}  # [2, L] a pool: of the reference, ours
    for number, pool in enumerate(drawn):
        texts = zip(pool.captions, pool_explanations(pool, "true", TEST_SEED * 1000 + number), strict=True)
        posts = [RawPost(*text, to_jpeg(pixels)) for text, pixels in zip(texts, pool.pixels, strict=True)]
        scores = [way.images @ way.texts.T for way in (reference(posts), ours(posts))]
        for direction, matrices in (("image_to_text", scores), ("text_to_image", [m.T for m in scores])):
            ranks.setdefault(direction, []).append(np.stack([score_ranks(matrix) for matrix in matrices]))
    return [
        _pair(f"{direction}_R@{k}", np.concatenate(found, axis=1), k)
        for direction, found in ranks.items()
        for k in _KS
    ]


def _pair(name: str, ranks: NDArray[np.int64], k: int) -> RecallPair:
    changed = float(np.mean((ranks[0] <= k) != (ranks[1] <= k)))
    return RecallPair(name, recall(ranks[0], k), recall(ranks[1], k), changed)
