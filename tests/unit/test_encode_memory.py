"""The encode stage where the device's memory is too small for a batch."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tests.fakes import prepared
from worker.errors import Reason
from worker.stages.encode import Encode
from worker.types import DeadLettered, Encoded, Pixels, Prepared

DIM = 3


class Buffer:
    """What a forward pass holds while it computes."""


class SmallDevice:
    """Has room for a few texts at once, and none at all for those that are `huge`."""

    image_size = 4
    dim = DIM

    def __init__(self, room: int) -> None:
        self._room = room
        self.sizes: list[int] = []
        self.left_over: list[bool] = []  # at each call, whether what the one before held is still there
        self._held: weakref.ref[Buffer] | None = None

    def encode_images(self, pixels: Pixels) -> NDArray[np.float32]:
        return np.ones((len(pixels), DIM), np.float32)

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> NDArray[np.float32]:
        self.sizes.append(len(texts))
        self.left_over.append(self._held is not None and self._held() is not None)
        buffer = Buffer()
        self._held = weakref.ref(buffer)
        if len(texts) > self._room or "huge" in texts:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return np.ones((len(texts), DIM), np.float32)

    def warm_up(self) -> None:
        """One text always has room."""


def posts_of(*texts: str) -> list[Prepared]:
    return [prepared(f"p{n}", windows=(text,)) for n, text in enumerate(texts)]


def test_a_batch_too_large_for_the_device_is_halved_and_costs_no_post() -> None:
    device = SmallDevice(room=3)
    results = Encode(device, "m")(posts_of(*"abcdefgh"))
    assert [type(result) for result in results] == [Encoded] * 8
    assert device.sizes == [8, 4, 2, 2, 4, 2, 2]


def test_what_a_failed_batch_held_is_free_before_its_halves_begin() -> None:
    device = SmallDevice(room=1)
    Encode(device, "m")(posts_of(*"abcd"))
    assert device.left_over == [False] * 7


def test_only_the_post_that_has_no_room_by_itself_is_refused() -> None:
    results = Encode(SmallDevice(room=4), "m")(posts_of("a", "b", "huge", "d", "e"))
    refused = [result for result in results if isinstance(result, DeadLettered)]
    assert len(results) == 5
    assert [(letter.record.key, letter.reason) for letter in refused] == [(b"p2", Reason.ENCODING_FAILED)]
    assert "OutOfMemoryError" in refused[0].detail
