"""The picture of a query: a file, or an address that is fetched with the guards that posts have."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.pictures.decode import ImageError, ImageLimits, decode_picture
from worker.config import Config
from worker.errors import InvalidPost, Reason

if TYPE_CHECKING:
    from model.pictures.decode import ResizeMode

_SHOWN_SIDE = 256  # pixels
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Args:
        pixels: [S, S, 3] uint8 RGB, as the model takes it.
        thumbnail: a JPEG.
    """

    pixels: NDArray[np.uint8]
    thumbnail: bytes


def read_picture(place: str, config: Config) -> bytes:
    """The picture's file; blocks for as long as the disk or `fetch.total_s` takes.

    Args:
        place: a file, or an http(s) address.

    Raises:
        InvalidPost: it cannot be read, or must not be fetched.
    """
    if _ADDRESS.match(place):
        return asyncio.run(_fetch(place, config))
    most = config.limits.image_bytes
    try:
        with Path(place).expanduser().open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{place}: {reason}") from error
    if len(data) > most:
        raise InvalidPost(Reason.IMAGE_TOO_LARGE, f"{place} is over {most} bytes")
    return data


async def _fetch(address: str, config: Config) -> bytes:
    from worker.fetch.fetcher import Fetcher
    from worker.observe.metrics import Metrics

    async with aclosing(Fetcher(config.fetch, _limits(config), Metrics())) as fetcher:
        lease = fetcher.lease()
        try:
            return await fetcher.fetch(address, lease)
        finally:
            lease.release()


def open_picture(data: bytes, place: str, side: int, mode: ResizeMode, config: Config) -> Picture:
    """Decode a picture.

    Args:
        place: what it is called in an error.
        side: of the model's input, S.

    Raises:
        InvalidPost: it cannot be decoded.
    """
    try:
        picture = decode_picture(data, target=side, longer_side=_SHOWN_SIDE, limits=_limits(config))
    except ImageError as error:
        raise InvalidPost(Reason(error.reason.value), f"{place}: {error}") from error
    return Picture(picture.for_model(side, mode), picture.thumbnail(_SHOWN_SIDE))


def _limits(config: Config) -> ImageLimits:
    return ImageLimits(max_bytes=config.limits.image_bytes, max_pixels=config.limits.image_pixels)
