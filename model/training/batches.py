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
    """

    pixels: NDArray[np.uint8]
    captions: list[str]
    explanations: list[str]
    image_group: NDArray[np.int64]
    text_group: NDArray[np.int64]


class TrainingData(Protocol):
    """A seeded source of batches, thread-safe."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same one every time: that is what makes a run resumable."""

    def facts(self) -> dict[str, object]:
        """What the data is, for the checkpoint: name, sizes, fingerprint."""
