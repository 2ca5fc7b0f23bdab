"""Inference: pictures and texts in, L2-normalised numpy vectors out. Tensors stay inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model import backbone as towers
from model.config import PreprocessConfig
from model.entityclip import EntityClip
from model.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

Vectors = NDArray[np.float32]


class Encoder:
    """The serving path: the two plain towers.

    A checkpoint that was trained on texts with their explanations behind them (`text = "concat"`) reads them
    so here too; any other one reads the text alone. One thread at a time may call it. The text is cut to the
    longest of its batch, which is exact for a causal tower; texts are sorted by length so that a batch holds
    alike ones.

    Args:
        model: weights; put into eval mode and moved to the device.
        reads_explanations: whether a text is followed by its explanation.
        device: torch device name.
        batch_size: most pictures or texts in one forward pass.
    """

    def __init__(
        self,
        model: EntityClip,
        preprocess: PreprocessConfig | None = None,
        *,
        reads_explanations: bool = False,
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        preprocess = preprocess or PreprocessConfig()
        self.reads_explanations = reads_explanations
        self._model = model.eval().to(device)
        self.device, self.batch_size = torch.device(device), batch_size
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1) * 255
        text = model.config.text
        self.tokenizer = ClipTokenizer(text.vocab_size, text.context_length)
        self.image_size = model.config.vision.image_size
        self.dim = model.config.embed_dim

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, device: str = "cpu", batch_size: int = 64) -> Encoder:
        """The encoder that a checkpoint was trained to be."""
        config = checkpoint.config
        return cls(
            checkpoint.model,
            config.preprocess,
            reads_explanations=config.text == "concat",
            device=device,
            batch_size=batch_size,
        )

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
            for chunk in (pixels[start : start + self.batch_size] for start in self._starts(len(pixels)))
        ]
        return self._finish(features)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str] | None = None) -> Vectors:
        """Encode texts, each cut to the model's context.

        Args:
            explanations: one a text, empty for none; only read where `reads_explanations`.

        Returns:
            [B, D] float32, L2-normalised, in the order given; a row is NaN where the model gave no vector.
        """
        rows = self.token_rows(texts, explanations)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        features = [
            towers.text_features(self._model.backbone, self.token_tensor([rows[index] for index in chunk]))
            for chunk in (order[start : start + self.batch_size] for start in self._starts(len(order)))
        ]
        vectors = self._finish(features)
        result = np.empty_like(vectors)
        result[order] = vectors
        return result

    def token_rows(self, texts: Sequence[str], explanations: Sequence[str] | None = None) -> list[list[int]]:
        """The ids that the text tower reads for each text, not padded."""
        if self.reads_explanations and explanations is not None:
            return self.tokenizer.encode_joined(texts, explanations)
        return self.tokenizer.encode(texts)

    def fits(self, text: str, explanation: str = "") -> bool:
        """Whether the tower reads the whole text, with its explanation where it reads those."""
        return self.tokenizer.fits(text, explanation if self.reads_explanations else "")

    def warm_up(self) -> None:
        """Run both towers once, so that the first post does not pay for it."""
        self.encode_images(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))
        self.encode_texts(["warm-up"])

    def _starts(self, count: int) -> range:
        return range(0, count, self.batch_size)

    def image_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels as the image tower takes them. [B, S, S, 3] uint8 -> [B, 3, S, S] float on the device."""
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return (image.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def token_tensor(self, rows: Sequence[Sequence[int]], *, at_least: int = 0) -> Tensor:
        """Ids padded with 0 to the longest of the rows, or longer. [B, L] int64 on the device."""
        length = max(at_least, *map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return ids.to(self.device)

    def _finish(self, features: list[Tensor]) -> Vectors:
        if not features:
            return np.empty((0, self.dim), np.float32)
        joined = torch.cat(features).float()
        vectors: Vectors = functional.normalize(joined, dim=-1).cpu().numpy()
        vectors[~(np.abs(vectors).max(axis=1) > 0)] = np.nan  # zero and NaN rows alike
        return vectors
