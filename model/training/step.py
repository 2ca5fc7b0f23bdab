"""One training step: a batch on the device, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import ArchitectureConfig, PreprocessConfig
from model.entityclip import EntityClip
from model.loss import LossParts, LossWeights, duplicate_mask, entityclip_loss
from model.tokenizer import ClipTokenizer
from model.training.batches import Batch


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A batch as the model takes it.

    Args:
        image: [B, 3, S, S] float, normalised.
        text, explanation: [B, L] int64.
        duplicates: [B, B] bool, off-diagonal pairs that are no negatives.
    """

    image: Tensor
    text: Tensor
    explanation: Tensor
    duplicates: Tensor


class Tensorizer:
    """Batches of pixels and texts to tensors on the device. Thread-safe."""

    def __init__(
        self, architecture: ArchitectureConfig, preprocess: PreprocessConfig, device: torch.device
    ) -> None:
        text = architecture.text
        self._tokenizer = ClipTokenizer(text.vocab_size, text.context_length)
        self._mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255
        self._attend_padding = architecture.experts.attend_padding
        self._device = device

    def __call__(self, batch: Batch) -> TensorBatch:
        image = torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float()
        # cutting is exact unless the experts attend to padding
        cut = not self._attend_padding
        return TensorBatch(
            image=((image - self._mean) / self._std).to(self._device),
            text=torch.from_numpy(self._tokenizer(batch.captions, cut=cut)).to(self._device),
            explanation=torch.from_numpy(self._tokenizer(batch.explanations, cut=cut)).to(self._device),
            duplicates=duplicate_mask(
                torch.from_numpy(batch.image_group), torch.from_numpy(batch.text_group)
            ).to(self._device),
        )


def batch_loss(
    model: EntityClip, batch: TensorBatch, weights: LossWeights, generator: torch.Generator | None = None
) -> LossParts:
    """Forward pass and loss of one batch; what no term needs is not computed.

    Args:
        generator: source of the hard negatives' draw.
    """
    output = model(batch.image, batch.text, batch.explanation)
    return entityclip_loss(model, output, weights=weights, duplicates=batch.duplicates, generator=generator)
