"""The two ways of `entityclip bench encode`, on the same posts and the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.pictures.decode import ResizeMode, decode_picture
from model.serving.encoder import Encoder
from model.serving.precision import choose_precision
from model.serving.stream import EncodedBatch, RawPost, encode_stream
from model.serving.towers import Precision
from worker.bench import naive
from worker.bench.naive import NaiveEncoder, PlainVectors
from worker.bench.rounds import PartClock

OURS, REFERENCE = "ours", "reference"
Auto = Literal["auto"]


@dataclass(frozen=True, slots=True)
class Threads:
    """How many.

    Args:
        decode: that decode pictures.
        encode: that call the encoder.
        torch: of one operation.
    """

    decode: int
    encode: int
    torch: int


class EncodeWays:
    """Both ways; each sets torch's number of threads as it wants it, so that they can take turns.

    Args:
        precision: of ours; `auto` tries which is fastest on the device.
        rows: posts a batch of ours.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str, precision: Precision | Auto, threads: Threads, rows: int
    ) -> None:
        self._torch_default = torch.get_num_threads()
        self._reference = NaiveEncoder(checkpoint, device)
        self.threads, self._rows = threads, rows
        self.precision, self.precision_line = _precision(checkpoint, device, precision)
        self._encoder = Encoder.of(checkpoint, device=device, precision=self.precision)
        self._mode: ResizeMode = checkpoint.config.preprocess.resize_mode
        self.tokenizer = self._encoder.tokenizer

    def whole_texts(self, posts: Sequence[RawPost]) -> NDArray[np.bool_]:
        """Which posts' texts both ways read alike: where two do not fit one context, ours keeps of both."""
        return np.array([self._encoder.fits(post.caption, post.explanation) for post in posts])

    def reference(self, posts: Sequence[RawPost]) -> PlainVectors:
        """open_clip's way."""
        torch.set_num_threads(self._torch_default)
        return self._reference.encode(posts)

    def ours(self, posts: Sequence[RawPost]) -> PlainVectors:
        """By `encode_stream`."""
        torch.set_num_threads(self.threads.torch)
        return joined(
            list(
                encode_stream(
                    self._encoder,
                    posts,
                    resize_mode=self._mode,
                    threads=self.threads.decode,
                    encode_threads=self.threads.encode,
                    rows=self._rows,
                )
            )
        )

    def reference_parts(self, posts: Sequence[RawPost]) -> dict[str, float]:
        """CPU seconds of each part of the reference."""
        torch.set_num_threads(self._torch_default)
        clock = PartClock()
        self._reference.encode(posts, clock)
        return clock.seconds

    def our_parts(self, posts: Sequence[RawPost]) -> dict[str, float]:
        """CPU seconds of each part of ours, one after the other on this thread."""
        torch.set_num_threads(self.threads.torch)
        clock = PartClock()
        for start in range(0, len(posts), self._rows):
            self._timed_batch(posts[start : start + self._rows], clock)
        clock.seconds[naive.TEXT_TOWER] -= clock.seconds[naive.TOKENISE]  # `encode_texts` tokenises too
        return clock.seconds

    def _timed_batch(self, posts: Sequence[RawPost], clock: PartClock) -> None:
        size = self._encoder.image_size
        with clock.part(naive.DECODE):
            pictures = [decode_picture(post.picture or b"", target=size) for post in posts]
        with clock.part(naive.RESIZE):
            pixels = np.stack([picture.for_model(size, self._mode) for picture in pictures])
        with clock.part(naive.IMAGE_TOWER):
            self._encoder.encode_images(pixels)
        captions, explanations = [post.caption for post in posts], [post.explanation for post in posts]
        texts = (captions, explanations) if self._encoder.reads_explanations else (captions + explanations,)
        with clock.part(naive.TOKENISE):
            self._encoder.token_rows(*texts)
        with clock.part(naive.TEXT_TOWER):
            self._encoder.encode_texts(*texts)


def joined(batches: Sequence[EncodedBatch]) -> PlainVectors:
    """The vectors of all batches, in the form of the reference's."""
    beside = [batch.explanations for batch in batches if batch.explanations is not None]
    return PlainVectors(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.texts for batch in batches]),
        np.concatenate(beside) if beside else None,
    )


def _precision(checkpoint: Checkpoint, device: str, wanted: Precision | Auto) -> tuple[Precision, str]:
    """The precision, and how it came to be."""
    if wanted != "auto":
        return wanted, f"precision {wanted}, as asked for"
    choice = choose_precision(checkpoint.model.to(device).backbone, torch.device(device))
    return choice.precision, f"precision {choice.line()}"
