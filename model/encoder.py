"""Inference: pictures and texts in, L2-normalised numpy vectors out. Tensors stay inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model import backbone as towers
from model.config import PreprocessConfig
from model.entityclip import EntityClip
from model.tokenizer import ClipTokenizer

Vectors = NDArray[np.float32]


class Encoder:
    """The serving path: variant P, the two plain towers.

    One thread at a time may call it. The text is cut to the longest of its batch, which is exact for a causal
    tower; texts are sorted by length so that a batch holds alike ones.

    Args:
        model: weights; put into eval mode and moved to the device.
        device: torch device name.
        batch_size: most pictures or texts in one forward pass.
    """

    def __init__(
        self,
        model: EntityClip,
        preprocess: PreprocessConfig | None = None,
        *,
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        preprocess = preprocess or PreprocessConfig()
        self._model = model.eval().to(device)
        self._device, self._batch_size = torch.device(device), batch_size
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1) * 255
        text = model.config.text
        self.tokenizer = ClipTokenizer(text.vocab_size, text.context_length)
        self.image_size = model.config.vision.image_size
        self.dim = model.config.embed_dim

    @torch.inference_mode()
    def encode_images(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Encode decoded pictures.

        Args:
            pixels: [B, S, S, 3] uint8 RGB at `image_size`; B may be 0.

        Returns:
            [B, D] float32, L2-normalised; a row is NaN where the model gave no finite, non-zero vector.
        """
        features = [
            towers.image_features(self._model.backbone, self.image_tensor(chunk))
            for chunk in (pixels[start : start + self._batch_size] for start in self._starts(len(pixels)))
        ]
        return self._finish(features)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, each cut to the model's context.

        Returns:
            [B, D] float32, L2-normalised, in the order given.
        """
        rows = self.tokenizer.encode(texts)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        features = [
            towers.text_features(self._model.backbone, self.token_tensor([rows[index] for index in chunk]))
            for chunk in (order[start : start + self._batch_size] for start in self._starts(len(order)))
        ]
        vectors = self._finish(features)
        result = np.empty_like(vectors)
        result[order] = vectors
        return result

    def warm_up(self) -> None:
        """Run both towers once, so that the first post does not pay for it."""
        self.encode_images(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))
        self.encode_texts(["warm-up"])

    def _starts(self, count: int) -> range:
        return range(0, count, self._batch_size)

    def image_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels as the image tower takes them. [B, S, S, 3] uint8 -> [B, 3, S, S] float on the device."""
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
        return (image.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def token_tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Ids padded with 0 to the longest of the rows. [B, L] int64 on the device."""
        length = max(map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return ids.to(self._device)

    def _finish(self, features: list[Tensor]) -> Vectors:
        if not features:
            return np.empty((0, self.dim), np.float32)
        joined = torch.cat(features).float()
        vectors: Vectors = functional.normalize(joined, dim=-1).cpu().numpy()
        vectors[~(np.abs(vectors).max(axis=1) > 0)] = np.nan  # zero and NaN rows alike
        return vectors
