"""What a training set gives the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """B aligned triples, not yet normalised or tokenised.

    Args:
        pixels: [B, S, S, 3] uint8 RGB at the model's input size.
        captions, explanations: B texts each; an empty explanation is none.
        image_group, text_group: [B] int64; rows equal in either are no negatives of each other.
        image_index: [B] int64, the stored pictures the rows show; None where pictures are made on the spot.
    """

    pixels: NDArray[np.uint8]
    captions: list[str]
    explanations: list[str]
    image_group: NDArray[np.int64]
    text_group: NDArray[np.int64]
    image_index: NDArray[np.int64] | None = None


class TrainingData(Protocol):
    """A seeded source of batches, thread-safe."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same one every time: that is what makes a run resumable.

        In a run of several processes this is the rank's part of the step's batch.
        """

    def facts(self) -> dict[str, object]:
        """What the data is, for the checkpoint: name, sizes, fingerprint."""


class RankShare:
    """One rank's part of a source that makes whole batches.

    Args:
        data: batches of a multiple of `size` rows.
        rank, size: this process and how many there are.
    """

    def __init__(self, data: TrainingData, rank: int, size: int) -> None:
        self._data, self._rank, self._size = data, rank, size

    def batch(self, step: int) -> Batch:
        whole = self._data.batch(step)
        count = len(whole.captions) // self._size
        rows = slice(self._rank * count, (self._rank + 1) * count)
        return Batch(
            pixels=whole.pixels[rows],
            captions=whole.captions[rows],
            explanations=whole.explanations[rows],
            image_group=whole.image_group[rows],
            text_group=whole.text_group[rows],
            image_index=None if whole.image_index is None else whole.image_index[rows],
        )

    def facts(self) -> dict[str, object]:
        return self._data.facts()
