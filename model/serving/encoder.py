"""Inference: pictures and texts in, L2-normalised numpy vectors out. Tensors stay inside."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.config import PreprocessConfig
from model.entityclip import EntityClip
from model.serving.device_meter import DeviceMeter
from model.serving.towers import Precision, Towers, serving_towers
from model.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

Vectors = NDArray[np.float32]
_PADDING = 0.2  # share of a pass
_PADDING_TOKENS = 256  # so few are cheaper than a pass of their own


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one forward pass takes at most; a single picture or text that exceeds a limit runs alone.

    Args:
        rows: pictures or texts.
        tokens: of texts, the padding counted.
        pixels: of pictures at the model's input size.
    """

    rows: int = 64
    tokens: int = 4096
    pixels: int = 1 << 24


class Encoder:
    """The serving path: the two plain towers. Any number of threads may call it at once.

    A checkpoint that was trained on texts with their explanations behind them (`text = "concat"`) reads them
    so here too; any other one reads the text alone. Texts are sorted by length, and each forward pass is cut
    to its longest text, which is exact for a causal tower. On a GPU each thread has a stream of its own, so
    that one copies while another computes.

    Args:
        model: weights; put into eval mode and moved to the device.
        reads_explanations: whether a text is followed by its explanation.
        device: torch device name.
        precision: of the matrix products.
        compiled: whether the towers are compiled for a few fixed shapes, which takes a minute or more.

    Raises:
        CompileError: they are to be, and cannot be here.
    """

    def __init__(
        self,
        model: EntityClip,
        preprocess: PreprocessConfig | None = None,
        *,
        reads_explanations: bool = False,
        device: str = "cpu",
        limits: BatchLimits | None = None,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        preprocess = preprocess or PreprocessConfig()
        self.reads_explanations = reads_explanations
        self.device, self.limits = torch.device(device), limits or BatchLimits()
        self._towers = serving_towers(model.eval().to(device).backbone, precision)
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1) * 255
        self._meter = DeviceMeter(self.device)
        text = model.config.text
        self.tokenizer = ClipTokenizer(text.vocab_size, text.context_length)
        self.image_size = model.config.vision.image_size
        self.dim = model.config.embed_dim
        if compiled:
            self._towers = self._compiled()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the threads' streams do not wait for this one's copies

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        limits: BatchLimits | None = None,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> Encoder:
        """The encoder that a checkpoint was trained to be."""
        config = checkpoint.config
        return cls(
            checkpoint.model,
            config.preprocess,
            reads_explanations=config.text == "concat",
            device=device,
            limits=limits,
            precision=precision,
            compiled=compiled,
        )

    @torch.inference_mode()
    def encode_images(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Encode decoded pictures.

        Args:
            pixels: [B, S, S, 3] uint8 RGB at `image_size`; B may be 0.

        Returns:
            [B, D] float32, L2-normalised; a row is NaN where the model gave no finite, non-zero vector.
        """
        with self._meter.stream():
            return self._finish(
                [self._towers.image_features(self.image_tensor(part)) for part in self.image_parts(pixels)]
            )

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str] | None = None) -> Vectors:
        """Encode texts, each cut to the model's context.

        Args:
            explanations: one a text, empty for none; only read where `reads_explanations`.

        Returns:
            [B, D] float32, L2-normalised, in the order given; a row is NaN where the model gave no vector.
        """
        rows = self.token_rows(texts, explanations)
        parts = batches_by_length([len(row) for row in rows], self.limits)
        with self._meter.stream():
            vectors = self._finish(
                [
                    self._towers.text_features(self.token_tensor([rows[index] for index in part]))
                    for part in parts
                ]
            )
        result = np.empty_like(vectors)
        result[[index for part in parts for index in part]] = vectors
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

    def metered(self) -> AbstractContextManager[None]:
        """For work of the same model beside the towers: on this thread's stream, and counted."""
        return self._meter.stream()

    def device_seconds(self) -> float:
        """How long the device has computed for this encoder so far."""
        return self._meter.seconds()

    def _compiled(self) -> Towers:
        from model.serving.compiled import CompiledTowers  # its imports take a second, and few need them

        return CompiledTowers(
            self._towers,
            image=torch.zeros(3, self.image_size, self.image_size, device=self.device),
            context=self.tokenizer.context_length,
            rows=self._image_rows(),
            text_rows=self.limits.rows,
            tokens=self.limits.tokens,
        )

    def _image_rows(self) -> int:
        return max(1, min(self.limits.rows, self.limits.pixels // self.image_size**2))

    def image_parts(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Pictures, cut into what one forward pass takes."""
        rows = self._image_rows()
        return [pixels[start : start + rows] for start in range(0, len(pixels), rows)]

    def image_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels as the image tower takes them. [B, S, S, 3] uint8 -> [B, 3, S, S] float on the device."""
        image = self._moved(torch.from_numpy(np.ascontiguousarray(pixels)))
        return (image.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def token_tensor(self, rows: Sequence[Sequence[int]], *, at_least: int = 0) -> Tensor:
        """Ids padded with 0 to the longest of the rows, or longer. [B, L] int64 on the device."""
        ids = np.zeros((len(rows), max(at_least, *map(len, rows))), np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return self._moved(torch.from_numpy(ids))

    def _moved(self, tensor: Tensor) -> Tensor:
        """On the device. A pinned copy is the allocator's to reuse, and it waits for the transfer."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _finish(self, features: list[Tensor]) -> Vectors:
        if not features:
            return np.empty((0, self.dim), np.float32)
        vectors: Vectors = functional.normalize(torch.cat(features).float(), dim=-1).cpu().numpy()
        vectors[~(np.abs(vectors).max(axis=1) > 0)] = np.nan  # zero and NaN rows alike
        return vectors


def batches_by_length(lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """Cut texts into forward passes of alike lengths.

    A pass ends where the next text would make more of its tokens padding than `_PADDING` allows: one pass
    more costs less than that.

    Args:
        lengths: tokens of each text.

    Returns:
        Places of the texts, shortest first; each place once.
    """
    parts: list[list[int]] = []
    used = 0  # tokens of the last part, without padding
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[place]
        padded = (len(parts[-1]) + 1) * length if parts else 0
        wasted = padded - used - length
        full = not parts or len(parts[-1]) >= limits.rows or padded > limits.tokens
        if full or wasted > max(_PADDING_TOKENS, padded * _PADDING):
            parts.append([])
            used = 0
        parts[-1].append(place)
        used += length
    return parts
