"""Many posts through one encoder: pictures are decoded by a pool while the towers compute.

    for batch in encode_stream(encoder, posts):
        ...

What waits is bounded in posts and in bytes, so the input may be endless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from model.pictures.decode import ImageError, ImageLimits, ResizeMode, decode_picture
from model.serving.encoder import Encoder, Vectors

_WAITING_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as it comes.

    Args:
        caption: its text, may be empty.
        explanation: of the caption, may be empty.
        picture: the file, or None for a post without one.
    """

    caption: str
    explanation: str = ""
    picture: bytes | None = None


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Some posts that followed each other. A row of NaN: there was nothing, or nothing usable, to encode.

    Args:
        images: [B, D] float32, L2-normalised.
        texts: [B, D] float32, L2-normalised: captions, each with its explanation behind it where the encoder
            reads those.
        explanations: [B, D] float32, L2-normalised, explanations as texts of their own; None where the
            encoder reads them with the captions.
        refused: why a picture was not decoded, by its row.
    """

    images: Vectors
    texts: Vectors
    explanations: Vectors | None
    refused: Mapping[int, ImageError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)


_Decoded = Future["NDArray[np.uint8] | ImageError"]


def encode_stream(
    encoder: Encoder,
    posts: Iterable[RawPost],
    *,
    resize_mode: ResizeMode = "center-crop",
    threads: int = 2,
    encode_threads: int | None = None,
    rows: int = 64,
    limits: ImageLimits | None = None,
    waiting_bytes: int = _WAITING_BYTES,
) -> Generator[EncodedBatch, None, None]:
    """Encode posts in their order; the towers compute in threads of their own, whatever the caller does.

    At most `encode_threads` + 1 batches are read ahead of the one that was asked for. Closing the iterator
    waits for what was begun.

    Args:
        posts: iterated by the calling thread.
        resize_mode: of the checkpoint.
        threads: that decode pictures; Pillow lets go of the GIL meanwhile.
        encode_threads: that call the encoder; two on CUDA, else one, when None.
        rows: posts a batch.
        limits: of a picture.
        waiting_bytes: most bytes of files that wait to be decoded; one file may exceed it alone.

    Raises:
        ValueError: `rows`, or a number of threads, is less than 1.
        Exception: whatever the encoder or `posts` raise; a picture that cannot be decoded raises nothing.
    """
    encode_threads = encode_threads or (2 if encoder.device.type == "cuda" else 1)
    if min(threads, encode_threads, rows) < 1:
        raise ValueError("rows and threads are at least 1")
    decoding = _Decoding(encoder.image_size, resize_mode, limits or ImageLimits(), waiting_bytes)
    source = iter(posts)
    waiting: deque[Future[EncodedBatch]] = deque()
    with (
        ThreadPoolExecutor(threads, "decode") as decoders,
        ThreadPoolExecutor(encode_threads, "encode") as towers,
    ):
        try:
            while chunk := [decoding.begin(decoders, post) for post in islice(source, rows)]:
                waiting.append(towers.submit(_encode, encoder, chunk))
                if len(waiting) > encode_threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            decoders.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A post whose picture is being decoded; the file's bytes are not held here."""

    caption: str
    explanation: str
    pixels: _Decoded | None


class _Decoding:
    """Hands pictures to the pool, and waits for the oldest ones while too many bytes wait."""

    def __init__(self, size: int, mode: ResizeMode, limits: ImageLimits, most_bytes: int) -> None:
        self._size, self._limits, self._most_bytes = size, limits, most_bytes
        self._mode: ResizeMode = mode
        self._pending: deque[tuple[int, _Decoded]] = deque()
        self._bytes = 0

    def begin(self, pool: ThreadPoolExecutor, post: RawPost) -> _Begun:
        if post.picture is None:
            return _Begun(post.caption, post.explanation, None)
        self._make_room(len(post.picture))
        future = pool.submit(self._pixels, post.picture)
        self._pending.append((len(post.picture), future))
        self._bytes += len(post.picture)
        return _Begun(post.caption, post.explanation, future)

    def _make_room(self, size: int) -> None:
        while self._pending and (self._pending[0][1].done() or self._bytes + size > self._most_bytes):
            done, future = self._pending.popleft()
            future.exception()  # waits; an error is the batch's to raise
            self._bytes -= done

    def _pixels(self, data: bytes) -> NDArray[np.uint8] | ImageError:
        try:
            picture = decode_picture(data, target=self._size, limits=self._limits)
        except ImageError as error:
            return error
        return picture.for_model(self._size, self._mode)


def _encode(encoder: Encoder, posts: Sequence[_Begun]) -> EncodedBatch:
    """On a thread of the towers; waits for the pictures of its posts."""
    pixels: dict[int, NDArray[np.uint8]] = {}
    refused: dict[int, ImageError] = {}
    for row, post in enumerate(posts):
        if post.pixels is not None:
            found = post.pixels.result()
            if isinstance(found, ImageError):
                refused[row] = found
            else:
                pixels[row] = found
    images = _spread(
        encoder, len(posts), list(pixels), lambda: encoder.encode_images(np.stack([*pixels.values()]))
    )
    texts, explanations = _encode_texts(encoder, posts)
    return EncodedBatch(images, texts, explanations, refused)


def _encode_texts(encoder: Encoder, posts: Sequence[_Begun]) -> tuple[Vectors, Vectors | None]:
    """Captions and explanations in one call: joined, or beside each other."""
    count = len(posts)
    if encoder.reads_explanations:
        told = [row for row, post in enumerate(posts) if post.caption or post.explanation]
        joined = [posts[row].caption for row in told], [posts[row].explanation for row in told]
        return _spread(encoder, count, told, lambda: encoder.encode_texts(*joined)), None
    texts = [post.caption for post in posts] + [post.explanation for post in posts]
    told = [row for row, text in enumerate(texts) if text]
    both = _spread(encoder, 2 * count, told, lambda: encoder.encode_texts([texts[row] for row in told]))
    return both[:count], both[count:]


def _spread(encoder: Encoder, count: int, rows: Sequence[int], encode: Callable[[], Vectors]) -> Vectors:
    """Vectors of some rows among `count`, NaN elsewhere; nothing is called for no rows."""
    if len(rows) == count and rows:
        return encode()
    result = np.full((count, encoder.dim), np.nan, np.float32)
    if rows:
        result[list(rows)] = encode()
    return result
