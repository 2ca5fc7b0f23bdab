"""The plain reference: a loop that encodes posts as a careful user of open_clip writes it.

PIL opens the file, `open_clip.image_transform` makes the tensor, 64 of them are stacked, then `encode_image`;
open_clip's tokenizer pads each text to the context, then `encode_text`. Float32, torch's defaults.
"""

from __future__ import annotations

import copy
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from PIL import Image
from torch import Tensor

from model.checkpoint import Checkpoint
from model.config import PreprocessConfig
from model.serving.stream import RawPost
from worker.bench.rounds import PartClock

BATCH = 64
DECODE, RESIZE, IMAGE_TOWER = "decode", "resize", "image tower"
TOKENISE, TEXT_TOWER = "tokenise", "text tower"
PARTS = (DECODE, RESIZE, IMAGE_TOWER, TOKENISE, TEXT_TOWER)
_NOT_MERGES = 512 + 2  # bytes, bytes that end a word, and the two special tokens
_RESIZE = {"center-crop": "shortest", "squash": "squash"}


@dataclass(frozen=True, slots=True)
class PlainVectors:
    """Vectors of N posts, [N, D] float32, L2-normalised; `explanations` where they are texts of their own."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    explanations: NDArray[np.float32] | None


class NaiveEncoder:
    """The reference on a checkpoint's own weights, which are copied.

    Args:
        device: torch device name.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self._model = _plain_clip(checkpoint).to(device)
        self._joins = checkpoint.config.text == "concat"
        text = checkpoint.config.architecture.text
        self._preprocess = _preprocess(
            checkpoint.config.preprocess, checkpoint.config.architecture.vision.image_size
        )
        self.tokenizer = simple_tokenizer(text.vocab_size, text.context_length)
        self._device = device

    @torch.inference_mode()
    def encode(self, posts: Sequence[RawPost], clock: PartClock | None = None) -> PlainVectors:
        """Encode posts that all have a picture.

        Args:
            clock: takes the time of each part.
        """
        clock = clock or PartClock()
        images, texts, explanations = [], [], []
        for start in range(0, len(posts), BATCH):
            batch = posts[start : start + BATCH]
            images.append(self._images(batch, clock))
            if self._joins:
                texts.append(self._texts([f"{post.caption} {post.explanation}" for post in batch], clock))
            else:
                texts.append(self._texts([post.caption for post in batch], clock))
                explanations.append(self._texts([post.explanation for post in batch], clock))
        return PlainVectors(_numpy(images), _numpy(texts), _numpy(explanations) if explanations else None)

    def _images(self, posts: Sequence[RawPost], clock: PartClock) -> Tensor:
        tensors = []
        for post in posts:
            if post.picture is None:
                raise ValueError("the reference encodes posts with a picture")
            with clock.part(DECODE):
                image = Image.open(io.BytesIO(post.picture))
                image.load()
            with clock.part(RESIZE):
                tensors.append(self._preprocess(image))
        with clock.part(RESIZE):
            stacked = torch.stack(tensors)
        with clock.part(IMAGE_TOWER):
            features: Tensor = self._model.encode_image(stacked.to(self._device), normalize=True)
            return features.cpu()

    def _texts(self, texts: list[str], clock: PartClock) -> Tensor:
        with clock.part(TOKENISE):
            ids = self.tokenizer(texts)
        with clock.part(TEXT_TOWER):
            features: Tensor = self._model.encode_text(ids.to(self._device), normalize=True)
            return features.cpu()


def simple_tokenizer(vocab_size: int, context_length: int) -> SimpleTokenizer:
    """open_clip's tokenizer, with the first merges only where the vocabulary is smaller than CLIP's."""
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).split(b"\n")
    merges = lines[: 1 + vocab_size - _NOT_MERGES]  # the first line is a header
    file = io.BytesIO(gzip.compress(b"\n".join(merges)))
    return SimpleTokenizer(bpe_path=file, context_length=context_length)


def _plain_clip(checkpoint: Checkpoint) -> CLIP:
    backbone = copy.deepcopy(checkpoint.model.backbone).float().eval()
    backbone.visual.output_tokens = False  # a user of open_clip gets one vector an image
    return backbone


def _preprocess(config: PreprocessConfig, size: int) -> open_clip.transform.Compose:
    return open_clip.image_transform(
        size,
        is_train=False,
        mean=config.mean,
        std=config.std,
        resize_mode=_RESIZE[config.resize_mode],
        interpolation="bicubic",
    )


def _numpy(features: Sequence[Tensor]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = torch.cat(list(features)).numpy()
    return vectors
