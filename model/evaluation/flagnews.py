"""Recall on FlagNews, seen and unseen looks apart, beside chance and a colour histogram."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.retrieval import KS, recall, score_ranks
from model.flagnews.bank import PictureBank
from model.flagnews.layers import Union
from model.flagnews.palette import PALETTE, colour_word
from model.flagnews.pools import ExplanationKind, Pool, entity_a_look, pool_explanations
from model.serving.encoder import Encoder

_BINS = 4  # a colour channel: 64 colours


def pool_recall(
    encoder: Encoder, pools: Sequence[Pool], seen: NDArray[np.bool_], seed: int
) -> dict[str, dict[str, float]]:
    """Recall of the two plain encoders among all looks, by whether the query's look was seen.

    Args:
        seed: see `pool_scores`.

    Returns:
        `{"seen" | "unseen": {"image_to_text_R@1": …}}`, means over pools, 0 to 1.
    """
    return by_group(pool_scores(encoder, pools, seed), seen)


def pool_scores(
    encoder: Encoder, pools: Sequence[Pool], seed: int, kind: ExplanationKind = "true"
) -> list[NDArray[np.float32]]:
    """Cosines of every picture with every caption of its pool, images by texts, one [L, L] matrix a pool.

    An encoder that reads explanations (variant C) is given one with each caption; for any other it is P.

    Args:
        seed: of the explanations' paraphrases.
    """
    scores = []
    for number, pool in enumerate(pools):
        texts = encoder.encode_texts(pool.captions, pool_explanations(pool, kind, seed * 1000 + number))
        scores.append(encoder.encode_images(pool.pixels) @ texts.T)
    return scores


def by_group(scores: Sequence[NDArray[np.float32]], seen: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Recall from ready scores, images by texts, one [L, L] matrix a pool."""
    groups = {"seen": seen, "unseen": ~seen}
    image_to_text = np.stack([score_ranks(matrix) for matrix in scores])  # [P, L]
    text_to_image = np.stack([score_ranks(matrix.T) for matrix in scores])
    return {
        name: {
            **{f"image_to_text_R@{k}": recall(image_to_text[:, mask], k) for k in KS},
            **{f"text_to_image_R@{k}": recall(text_to_image[:, mask], k) for k in KS},
        }
        for name, mask in groups.items()
        if mask.any()
    }


def recall_by_share(
    scores: Sequence[NDArray[np.float32]],
    pools: Sequence[Pool],
    seen: NDArray[np.bool_],
    edges: Sequence[float],
) -> dict[str, float]:
    """Image→text R@1 of seen looks by the flag's share of the picture, between consecutive edges."""
    rank = np.concatenate([score_ranks(matrix)[seen] for matrix in scores])
    share = np.concatenate([pool.share[seen] for pool in pools])
    return {
        f"{low:.3f}-{high:.3f}": recall(rank[(share >= low) & (share < high)], 1)
        for low, high in itertools.pairwise(edges)
    }


def chance(looks: int) -> dict[str, float]:
    """R@k of a blind guess among so many looks."""
    return {f"R@{k}": k / looks for k in KS}


def histogram_recall(
    training: PictureBank, pools: Sequence[Pool], seen: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """The colour yardstick: a picture's histogram against each look's mean training histogram.

    It is given the look of every caption, so it measures what colour alone can do with perfect text
    understanding. Looks without training pictures have the mean of all: chance.
    """
    prototypes = _prototypes(training, pools[0].look, seen)
    return by_group([_histograms(pool.pixels) @ prototypes.T for pool in pools], seen)


def _prototypes(
    training: PictureBank, looks: NDArray[np.int64], seen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    bank_looks = training.looks
    common = _histograms(training.pixels[:: max(1, len(training.pixels) // 2000)]).mean(axis=0)
    rows = []
    for look, is_seen in zip(looks, seen, strict=True):
        indices = np.flatnonzero(bank_looks == look)[:100] if is_seen else np.empty(0, np.int64)
        mean = _histograms(training.pixels[indices]).mean(axis=0) if len(indices) else common
        rows.append(mean - common)  # what sets the look apart from any other picture
    matrix = np.stack(rows)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms > 0, norms, 1.0), np.float32)


def _histograms(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Square-rooted colour histograms. [N, S, S, 3] uint8 -> [N, 64] float32, unit length."""
    levels = pixels.reshape(len(pixels), -1, 3) // (256 // _BINS)
    codes = (levels[..., 0] * _BINS + levels[..., 1]) * _BINS + levels[..., 2]  # [N, S·S]
    size = _BINS**3
    offset = codes.astype(np.int64) + np.arange(len(pixels))[:, None] * size
    counts = np.bincount(offset.ravel(), minlength=len(pixels) * size).reshape(len(pixels), size)
    return np.asarray(np.sqrt(counts / codes.shape[1]), np.float32)


def colour_word_recall(
    pools: Sequence[Pool], seen: NDArray[np.bool_], seed: int
) -> dict[str, dict[str, float]]:
    """The oracle bag of colour words: the colours a flag really has against those its explanation names.

    It is given every flag's colours, so it measures what the explanations' colour words alone can do with
    perfect sight. Pairs are scored by the overlap of the two sets (Jaccard); among ties the expected recall
    counts, since many flags have the same colours.

    Args:
        seed: of the explanations' paraphrases, as in `score_pools`.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for number, pool in enumerate(pools):
        entity_of = entity_a_look()
        pictures = [frozenset(_colours(entity_of[int(look)].spec.layers)) for look in pool.look]
        texts = [_named_colours(text) for text in pool_explanations(pool, "true", seed * 1000 + number)]
        scores = np.array([[len(one & other) / len(one | other) for other in texts] for one in pictures])
        for direction, matrix in (("image_to_text", scores), ("text_to_image", scores.T)):
            for k in KS:
                found.setdefault(f"{direction}_R@{k}", []).append(_expected_recall(matrix, k))
    groups = {"seen": seen, "unseen": ~seen}
    return {
        group: {name: float(np.mean([row[mask] for row in rows])) for name, rows in found.items()}
        for group, mask in groups.items()
        if mask.any()
    }


def _expected_recall(scores: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Chance that each query's own candidate is among the first k, ties in random order. [L, L] -> [L]."""
    own = np.diagonal(scores)[:, None]
    better, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return np.asarray(np.clip((k - better) / equal, 0.0, 1.0), np.float64)


def _colours(part: object) -> Iterator[str]:
    """Names of all colours in a specification's layers."""
    if isinstance(part, str):
        yield from [colour_word(part)] if part in PALETTE else []
    elif isinstance(part, tuple):
        for item in part:
            yield from _colours(item)
    elif isinstance(part, Union):
        yield from ("red", "white", "dark blue")
    elif is_dataclass(part):
        for field in fields(part):
            yield from _colours(getattr(part, field.name))


_COLOUR_WORDS = re.compile(
    "|".join(rf"\b{word}\b" for word in sorted(map(colour_word, PALETTE), key=len, reverse=True))
)


def _named_colours(text: str) -> frozenset[str]:
    return frozenset(_COLOUR_WORDS.findall(text))
