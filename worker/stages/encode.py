"""Encode: prepared posts to points, one forward pass for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.errors import FatalError, Reason
from worker.stages.bisect import bisected
from worker.stages.points import post_points
from worker.types import DeadLettered, Encoded, Pixels, Prepared

STAGE = "encode"
# What torch and numpy raise over a batch that they cannot compute, out of memory included.
_MODEL_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError)


class PostEncoder(Protocol):
    """What the stage needs of `model.serving.encoder.Encoder`."""

    image_size: int
    dim: int

    def encode_images(self, pixels: Pixels) -> NDArray[np.float32]:
        """[B, S, S, 3] to [B, D]; a NaN row where there is no vector."""

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> NDArray[np.float32]:
        """B texts, each with its explanation or none, to [B, D]; a NaN row where there is no vector."""

    def warm_up(self) -> None:
        """Run both towers once."""


class ScalarEncoder(Protocol):
    """What the stage needs of `worker.shared_model.SharedModel` for pairs to be scored by the head."""

    def encode_with_scalars(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[B, S, S, 3] to [B, D], and to each picture's scalars, of one forward pass."""


class Encode:
    """The step of the encode stage. Any thread, as the encoder allows; blocks while the model computes.

    A batch for which the device's memory is too small is halved like any other that fails.

    Args:
        head: gives the pictures' points the scalars that the matching head needs; None for none.
    """

    def __init__(self, encoder: PostEncoder, model_id: str, *, head: ScalarEncoder | None = None) -> None:
        self._encoder = encoder
        self._model_id = model_id
        self._head = head

    def __call__(self, posts: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        """Encode each post, or refuse it.

        Raises:
            FatalError: the model fails on its own warm-up input too, so the post was not at fault.
        """
        return bisected(posts, self._encode, _MODEL_ERRORS, self._refuse)

    def _encode(self, posts: Sequence[Prepared]) -> list[Encoded | DeadLettered]:
        images, scalars = self._images([image.pixels for post in posts for image in post.images])
        texts = self._texts([(window, post.explanation.text) for post in posts for window in post.windows])
        results: list[Encoded | DeadLettered] = []
        for post in posts:
            count = len(post.images)
            own_images, images = images[:count], images[count:]
            own_scalars, scalars = (None, None) if scalars is None else (scalars[:count], scalars[count:])
            own_texts, texts = texts[: len(post.windows)], texts[len(post.windows) :]
            results.append(self._result(post, own_images, own_scalars, own_texts))
        return results

    def _images(self, pixels: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The vectors and, with the matching head, the scalars."""
        if not pixels:
            return np.empty((0, self._encoder.dim), np.float32), None
        if self._head is not None:
            return self._head.encode_with_scalars(np.stack(pixels))
        return self._encoder.encode_images(np.stack(pixels)), None

    def _texts(self, texts: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self._encoder.dim), np.float32)
        return self._encoder.encode_texts([text for text, _ in texts], [other for _, other in texts])

    def _result(
        self,
        post: Prepared,
        images: NDArray[np.float32],
        scalars: NDArray[np.float32] | None,
        texts: NDArray[np.float32],
    ) -> Encoded | DeadLettered:
        checked = [(images, "image"), (texts, "text window")]
        if scalars is not None:
            checked.append((scalars, "image"))  # the store takes JSON, which has no NaN
        for vectors, kind in checked:
            without = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(without):
                detail = f"the model gave no vector for {kind} {without[0]}"
                return DeadLettered(post.record, Reason.ENCODING_FAILED, detail, STAGE)
        points = post_points(
            post,
            list(images),
            list(texts),
            self._model_id,
            image_scalars=None if scalars is None else list(scalars),
        )
        return Encoded(post, points)

    def _refuse(self, post: Prepared, error: Exception) -> Encoded | DeadLettered:
        try:
            self._encoder.warm_up()
        except _MODEL_ERRORS as broken:
            raise FatalError(f"the model no longer computes: {_line(broken)}") from broken
        return DeadLettered(post.record, Reason.ENCODING_FAILED, _line(error), STAGE)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
