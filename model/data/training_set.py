"""Training batches from prepared data: seeded epochs, a step's batch the same on any number of ranks.

An epoch is a seeded permutation of the N rows, cut into N // B global batches; the N mod B rows at its end
wait for another epoch's permutation. Step s is batch s mod (N // B) of epoch s // (N // B).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.data.prepared import PreparedSplit
from model.data.sample import DataError
from model.pictures.decode import ResizeMode, resize_for_model
from model.text_mode import TextMode, pair_texts
from model.training.batches import Batch

_ASPECTS = (3 / 4, 4 / 3)  # of a random crop, as in torchvision's RandomResizedCrop


class PreparedTraining:
    """`TrainingData` over a prepared split. Thread-safe.

    Args:
        split: usually `train`.
        size, resize_mode: of the model's input.
        batch_size: B, of the global batch.
        seed: of order, dropout and crops.
        explanation_dropout: probability that a row has no explanation.
        text: what the text of a row is, see `pair_texts`.
        rank, world_size: rank r of W gets rows r · B / W to (r + 1) · B / W of each global batch.
        crop_scale: least part of the area that a random crop keeps; 1: preprocessed as in evaluation.
        decode: False leaves the pixels empty, for runs that keep image tokens and never look at a picture.

    Raises:
        DataError: the split has fewer rows than a batch, or the ranks cannot share a batch evenly.
    """

    def __init__(
        self,
        split: PreparedSplit,
        size: int,
        resize_mode: ResizeMode,
        batch_size: int,
        seed: int,
        explanation_dropout: float,
        text: TextMode = "caption",
        rank: int = 0,
        world_size: int = 1,
        *,
        crop_scale: float = 1.0,
        decode: bool = True,
    ) -> None:
        if batch_size > split.count:
            raise DataError(
                f"{split.dataset} {split.name} has {split.count} rows, too few for a batch of {batch_size}"
            )
        if batch_size % world_size:
            raise DataError(f"a batch of {batch_size} cannot be shared evenly by {world_size} processes")
        if not 0 < crop_scale <= 1:
            raise DataError(f"crop_scale is above 0 and at most 1, not {crop_scale}")
        self._split, self._size, self._mode = split, size, resize_mode
        self._batch_size, self._seed, self._dropout = batch_size, seed, explanation_dropout
        share = batch_size // world_size
        self._text: TextMode = text
        self._mine = slice(rank * share, (rank + 1) * share)
        self._crop_scale, self._decode = crop_scale, decode

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch."""
        return self._split.count // self._batch_size

    def rows(self, step: int) -> NDArray[np.int64]:
        """The rows of a step's global batch. [B] int64."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = _permutation(self._seed, epoch, self._split.count)
        return order[place * self._batch_size : (place + 1) * self._batch_size]

    def batch(self, step: int) -> Batch:
        split, rows = self._split, self.rows(step)[self._mine]
        # drawn for the global batch, so that the number of ranks changes nothing
        rng = np.random.default_rng([self._seed, step, 0xD809])
        kept = (rng.random(self._batch_size) >= self._dropout)[self._mine]
        crops = rng.random((self._batch_size, 4))[self._mine]
        image_index = split.image_index[rows]
        texts = [
            pair_texts(self._text, split.captions[row], split.explanations[row] if keep else "")
            for row, keep in zip(rows.tolist(), kept, strict=True)
        ]
        return Batch(
            pixels=self._pixels(image_index, crops),
            captions=[text for text, _ in texts],
            explanations=[explanation for _, explanation in texts],
            image_group=split.image_group[rows],
            text_group=split.text_group[rows],
            image_index=image_index,
        )

    def facts(self) -> dict[str, object]:
        """What the data is, for the checkpoint."""
        return {
            "name": self._split.dataset,
            "split": self._split.name,
            "rows": self._split.count,
            "pictures": self._split.image_count,
            "left_out": self._split.left_out,
            "fingerprint": self._split.fingerprint,
            "crop_scale": self._crop_scale,
        }

    def _pixels(self, image_index: NDArray[np.int64], crops: NDArray[np.float64]) -> NDArray[np.uint8]:
        if not self._decode:
            return np.empty((0, self._size, self._size, 3), np.uint8)
        if self._crop_scale == 1:
            return self._split.pixels(image_index, self._size, self._mode)

        def read(row: int, picture: int) -> NDArray[np.uint8]:
            image = self._split.pictures.open(picture)
            box = _crop(image.size, self._crop_scale, crops[row])
            return resize_for_model(image.crop(box), self._size, "squash")

        return self._split.pictures.map(image_index, self._size, read)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.flags.writeable = False
    return order


def _crop(size: tuple[int, int], least: float, draw: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """A random box: its part of the area and its aspect, then where it lies.

    Args:
        size: width and height of the picture.
        least: part of the area that it has at least, if the aspect lets it.
        draw: [4] in 0 to 1.
    """
    width, height = size
    low, high = (math.log(aspect) for aspect in _ASPECTS)
    area = width * height * (least + (1 - least) * draw[0])
    aspect = math.exp(low + (high - low) * draw[1])
    wide = min(width, max(1, round(math.sqrt(area * aspect))))
    tall = min(height, max(1, round(math.sqrt(area / aspect))))
    left, top = int((width - wide + 1) * draw[2]), int((height - tall + 1) * draw[3])
    return left, top, left + wide, top + tall
