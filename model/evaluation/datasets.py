"""The rows of a split, encoded for evaluation.

What repeats (a picture of several rows, a caption with the same explanation) is encoded once, so that equal
rows tie exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.prepared import PreparedSplit
from model.evaluation.encoded import EncodedImages, EncodedTexts, SetEncoder
from model.evaluation.exact_scores import Indices, Vectors
from model.pictures.decode import ResizeMode

Explanations = Literal["none", "true", "shuffled"]
EXPLANATIONS: tuple[Explanations, ...] = ("none", "true", "shuffled")
_PICTURES_A_BATCH = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """The N rows that are evaluated, their pictures encoded.

    Args:
        captions, explanations, sections: of each row.
        image: [N] int64, the row's picture among `images`.
        image_group, text_group: [N] int64, equal = same picture, same caption.
    """

    captions: list[str]
    explanations: list[str]
    sections: list[str]
    images: EncodedImages
    image: Indices
    image_group: Indices
    text_group: Indices

    @property
    def count(self) -> int:
        """N."""
        return len(self.captions)

    @property
    def image_features(self) -> Vectors:
        """V_cls of every row. [N, D]."""
        return _taken(self.images.features, self.image)


@dataclass(frozen=True, slots=True)
class RowTexts:
    """The texts of N rows, each distinct one encoded once; row i shows `encoded` text number `text[i]`."""

    encoded: EncodedTexts
    text: Indices

    @property
    def plain(self) -> Vectors:
        """T_cls of every row. [N, D]."""
        return _taken(self.encoded.features, self.text)

    def mixed(self, share: float) -> Vectors:
        """Variant Q of every row, see `EncodedTexts.mixed`. [N, D]."""
        return _taken(self.encoded.mixed(share), self.text)


def _taken(vectors: Vectors, index: Indices) -> Vectors:
    """Some of the rows; no copy where it is all of them, in their order."""
    alike = len(index) == len(vectors) and bool((index == np.arange(len(index))).all())
    return vectors if alike else vectors[index]


def choose_rows(count: int, limit: int | None, seed: int = 0) -> Indices:
    """All rows, or a seeded draw of `limit` of them, in their order. [N] int64."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False)).astype(np.int64)


def encode_rows(encoder: SetEncoder, split: PreparedSplit, mode: ResizeMode, rows: Indices) -> Rows:
    """Read the rows and encode each of their pictures once, with a progress bar on a terminal."""
    numbers, image = np.unique(split.image_index[rows], return_inverse=True)
    with tqdm(total=len(numbers), unit="picture", desc="encoding pictures", disable=None, leave=False) as bar:

        def batches() -> Iterator[NDArray[np.uint8]]:
            for pixels in _read_ahead(split, numbers, encoder.image_size, mode):
                yield pixels
                bar.update(len(pixels))

        images = encoder.encode_images(batches())
    return Rows(
        captions=[split.captions[row] for row in rows],
        explanations=[split.explanations[row] for row in rows],
        sections=[split.sections[row] for row in rows],
        images=images,
        image=image.astype(np.int64),
        image_group=split.image_group[rows],
        text_group=split.text_group[rows],
    )


def _read_ahead(
    split: PreparedSplit, numbers: Indices, size: int, mode: ResizeMode
) -> Iterator[NDArray[np.uint8]]:
    """Decode the next batch of pictures while this one is encoded."""
    parts = [
        numbers[start : start + _PICTURES_A_BATCH] for start in range(0, len(numbers), _PICTURES_A_BATCH)
    ]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(split.pixels, parts[0], size, mode)
        for part in [*parts[1:], None]:
            pixels = waiting.result()
            if part is not None:
                waiting = pool.submit(split.pixels, part, size, mode)
            yield pixels


def encode_texts(
    encoder: SetEncoder, captions: Sequence[str], explanations: Sequence[str], text_group: Indices
) -> RowTexts:
    """Encode each distinct caption with its explanation once; captions of one group are the same text."""
    number: dict[tuple[int, str], int] = {}
    keys = zip(text_group.tolist(), explanations, strict=True)
    text = np.array([number.setdefault(key, len(number)) for key in keys], np.int64)
    _, first = np.unique(text, return_index=True)
    return RowTexts(
        encoder.encode_texts([captions[row] for row in first], [explanations[row] for row in first]), text
    )


def shown_explanations(rows: Rows, condition: Explanations, seed: int) -> list[str]:
    """The explanation of each row's text under a condition; shuffled ones come from another row."""
    if condition == "none":
        return [""] * len(rows.captions)
    if condition == "true":
        return rows.explanations
    order = np.random.default_rng(seed).permutation(len(rows.explanations))
    shuffled = [""] * len(order)
    for place, source in zip(order, np.roll(order, 1), strict=True):
        shuffled[place] = rows.explanations[source]
    return shuffled
