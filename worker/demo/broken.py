"""Five posts that no worker can process, each broken in another way."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.errors import Reason

_BOMB_SIDE = 60_000  # pixels; 3.6 gigapixels in a file of a hundred bytes


@dataclass(frozen=True, slots=True)
class BrokenPost:
    """A line of the stream and the reason it must be refused for."""

    line: bytes
    reason: Reason


def broken_posts(prefix: str, picture: NDArray[np.uint8]) -> tuple[BrokenPost, ...]:
    """Make one post of each kind.

    Args:
        prefix: of their ids.
        picture: [S, S, 3] uint8, a good one that is cut in half.
    """
    return (
        BrokenPost(
            b'{"id": "' + prefix.encode() + b'-cut", "text": "The wire ends in the midd', Reason.INVALID_JSON
        ),
        BrokenPost(_line(text="A post that nobody gave an id"), Reason.INVALID_SCHEMA),
        BrokenPost(_line(id=f"{prefix}-empty", text=""), Reason.EMPTY_POST),
        BrokenPost(
            _line(id=f"{prefix}-truncated", images=[{"data": _base64(_truncated_jpeg(picture))}]),
            Reason.IMAGE_UNDECODABLE,
        ),
        BrokenPost(
            _line(id=f"{prefix}-bomb", images=[{"data": _base64(_bomb_png())}]), Reason.IMAGE_TOO_LARGE
        ),
    )


def _line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _truncated_jpeg(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def _bomb_png() -> bytes:
    """A PNG whose header promises a picture that would fill the memory."""
    header = struct.pack(">IIBBBBB", _BOMB_SIDE, _BOMB_SIDE, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(64))) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
