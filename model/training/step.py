"""One training step's batch on the device, and its way through the towers and the experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import backbone as towers
from model.config import ArchitectureConfig, PreprocessConfig
from model.entityclip import EntityClip
from model.losses.pair_rows import PairRows
from model.tokenizer import ClipTokenizer
from model.training.batches import Batch

ImageTokens = Callable[[NDArray[np.int64]], Tensor]


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A batch as the model takes it.

    Args:
        image: [B, 3, S, S] float, normalised; or [B, N, D], the tokens of a locked image tower.
        text, explanation: [B, L] int64.
        image_group, text_group: [B] int64, see `Batch`.
    """

    image: Tensor
    text: Tensor
    explanation: Tensor
    image_group: Tensor
    text_group: Tensor

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: slice) -> TensorBatch:
        """Some of the rows."""
        return TensorBatch(
            self.image[rows],
            self.text[rows],
            self.explanation[rows],
            self.image_group[rows],
            self.text_group[rows],
        )


class Tensorizer:
    """Batches of pixels and texts to tensors on the device. Thread-safe.

    Args:
        image_tokens: of stored pictures, [B] indices -> [B, N, D] on the CPU; in place of pixels.
    """

    def __init__(
        self,
        architecture: ArchitectureConfig,
        preprocess: PreprocessConfig,
        device: torch.device,
        image_tokens: ImageTokens | None = None,
    ) -> None:
        text = architecture.text
        self._tokenizer = ClipTokenizer(text.vocab_size, text.context_length)
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1) * 255
        self._attend_padding = architecture.experts.attend_padding
        self._device, self._image_tokens = device, image_tokens

    def __call__(self, batch: Batch) -> TensorBatch:
        # cutting is exact unless the experts attend to padding
        cut = not self._attend_padding
        return TensorBatch(
            image=self._image(batch),
            text=self._move(torch.from_numpy(self._tokenizer(batch.captions, cut=cut))),
            explanation=self._move(torch.from_numpy(self._tokenizer(batch.explanations, cut=cut))),
            image_group=self._move(torch.from_numpy(batch.image_group)),
            text_group=self._move(torch.from_numpy(batch.text_group)),
        )

    def _image(self, batch: Batch) -> Tensor:
        if self._image_tokens is not None:
            if batch.image_index is None:
                raise ValueError("cached image tokens need a data set with stored pictures")
            return self._move(self._image_tokens(batch.image_index)).float()
        pixels = self._move(torch.from_numpy(batch.pixels))  # bytes: a quarter of the floats
        return (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def _move(self, tensor: Tensor) -> Tensor:
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)


def encode_pairs(model: EntityClip, batch: TensorBatch, *, explained: bool) -> PairRows:
    """Forward pass of one batch, as far as the loss needs it.

    Args:
        explained: whether a term of the loss needs the explanations; without, they are not encoded and only
            the class and EOT rows are projected: a plain CLIP.
    """
    backbone, has_tokens = model.backbone, batch.image.ndim == 3
    if not explained:
        image_row = batch.image[:, 0] if has_tokens else towers.image_features(backbone, batch.image)
        return PairRows(image_row, towers.text_features(backbone, batch.text))
    output = model.fuse(
        batch.image if has_tokens else towers.image_tokens(backbone, batch.image),
        towers.text_tokens(backbone, batch.text),
        towers.text_tokens(backbone, batch.explanation),
        towers.eot_index(batch.text),
        towers.eot_index(batch.explanation),
    )
    return PairRows.of(output)
