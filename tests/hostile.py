"""Image files that strangers send, made by code; run as a module, it decodes files by name.

    python -m tests.hostile < names    one JSON line a file, then the peak of the memory

The decoding stands in a process of its own so that its memory can be limited and measured.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.pictures.decode import ImageError, ImageReason, decode, resize_for_model, thumbnail

Pixels = NDArray[np.uint8]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(height: int = 48, width: int = 64) -> Pixels:
    """[height, width, 3] uint8: red and green above, blue and white below."""
    picture = np.empty((height, width, 3), np.uint8)
    rows, columns = height // 2, width // 2
    picture[:rows, :columns], picture[:rows, columns:] = RED, GREEN
    picture[rows:, :columns], picture[rows:, columns:] = BLUE, WHITE
    return picture


def encode(image: Image.Image | Pixels, file_format: str, **options: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, file_format, **options)
    return file.getvalue()


def jpeg(picture: Pixels | None = None, **options: Any) -> bytes:
    """A good JPEG with sharp colours."""
    options = {"quality": 95, "subsampling": 0} | options
    return encode(quadrants() if picture is None else picture, "JPEG", **options)


def oriented_jpeg(orientation: int, picture: Pixels) -> bytes:
    """A JPEG stored turned, whose EXIF says how to turn it back.

    Source: EXIF 2.3, tag 274: what row 0 and column 0 of the stored picture are in the upright one.
    """
    if orientation >= 5:  # row 0 is a side: rows and columns are exchanged
        stored = picture.transpose(1, 0, 2)
        flip_rows, flip_columns = orientation in (6, 7), orientation in (7, 8)
    else:
        stored = picture
        flip_rows, flip_columns = orientation in (3, 4), orientation in (2, 3)
    stored = stored[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(np.ascontiguousarray(stored), exif=exif)


def png(
    width: int, height: int, *, rows: bytes, depth: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG of a given header, whatever its compressed rows are."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def animated_gif() -> bytes:
    """Two frames: red, then blue."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def _gif_bomb() -> bytes:
    """A GIF of 65,535 pixels a side, and one byte of picture."""
    screen = struct.pack("<HHBBB", 0xFFFF, 0xFFFF, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 0xFFFF, 0xFFFF, 0)
    return b"GIF89a" + screen + frame + b"\x02\x02\x4c\x01\x00;"


def _text_bomb() -> bytes:
    """A PNG whose text chunk unfolds to 80 MiB."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9))
    return png(4, 4, rows=zlib.compress(bytes(4 * 13)), extra=text)


def refused() -> Mapping[str, tuple[bytes, ImageReason]]:
    """Files that must be refused, by name, each with its reason."""
    good, exif_loop = jpeg(), b"Exif\0\0MM\0*\0\0\0\x08" + b"\xff" * 64
    undecodable, too_large = ImageReason.UNDECODABLE, ImageReason.TOO_LARGE
    return {
        "empty.jpg": (b"", undecodable),
        "text.jpg": (b"this is no image at all", undecodable),
        "magic-only.png": (b"\x89PNG\r\n\x1a\n", undecodable),
        "truncated.jpg": (good[: len(good) // 2], undecodable),
        "truncated.png": (encode(quadrants(), "PNG")[:-40], undecodable),
        "truncated.gif": (encode(quadrants(), "GIF")[:-60], undecodable),
        "truncated.webp": (encode(quadrants(), "WEBP", lossless=True)[:-20], undecodable),
        "truncated.bmp": (encode(quadrants(), "BMP")[:-500], undecodable),
        "truncated-with-exif.jpg": (jpeg(exif=exif_loop)[:-300], undecodable),
        "broken-checksum.png": (encode(quadrants(), "PNG").replace(b"IDAT", b"IDAU"), undecodable),
        "text-bomb.png": (_text_bomb(), undecodable),
        "bomb.png": (png(60_000, 60_000, rows=zlib.compress(bytes(64))), too_large),
        "wide-bomb.png": (png(2_000_000_000, 2, rows=zlib.compress(bytes(64))), too_large),
        "bomb.gif": (_gif_bomb(), too_large),
        "over-the-cap.png": (png(10_000, 5_001, rows=zlib.compress(bytes(64))), too_large),
        "over-20-MiB.jpg": (good + bytes(20 << 20), too_large),
        "one-pixel.png": (encode(quadrants(2, 2)[:1, :1], "PNG"), ImageReason.TOO_SMALL),
        "line.png": (encode(quadrants(2, 64)[:1], "PNG"), ImageReason.TOO_SMALL),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ImageReason.FORMAT),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageReason.FORMAT),
        "scan.tif": (encode(quadrants(), "TIFF"), ImageReason.FORMAT),
        "icon.ico": (encode(quadrants(), "ICO"), ImageReason.FORMAT),
    }


def _compressed(length: int) -> bytes:
    """So many zero bytes, deflated without ever holding them."""
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(length // len(block))]
    return b"".join([*parts, packer.compress(bytes(length % len(block))), packer.flush()])


def large() -> Iterator[tuple[str, bytes]]:
    """Good files just under the cap on pixels, of the formats that cost the most memory."""
    width, height = 10_000, 4_990
    for name, depth, colour, bytes_a_pixel in (("grey-16-bit.png", 16, 0, 2), ("transparent.png", 8, 6, 4)):
        rows = _compressed(height * (1 + width * bytes_a_pixel))
        yield name, png(width, height, rows=rows, depth=depth, colour=colour)
    clear = Image.new("RGBA", (width, height), (90, 80, 70, 100))
    yield "transparent.webp", encode(clear, "WEBP", lossless=True, quality=0, method=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    cmyk = Image.new("CMYK", (width, height), (200, 10, 10, 10))
    yield "progressive-cmyk.jpg", encode(cmyk, "JPEG", progressive=True, quality=10, exif=exif)


def report(path: Path) -> dict[str, object]:
    """What became of one file."""
    begun = time.perf_counter()
    outcome, detail = "ok", ""
    try:
        picture = decode(path.read_bytes())
        resize_for_model(picture, 96)
        thumbnail(picture)
    except ImageError as error:
        outcome, detail = error.reason.value, str(error)
    return {"file": str(path), "outcome": outcome, "detail": detail, "seconds": time.perf_counter() - begun}


def peak_bytes() -> int:
    """The most memory this process had resident; `getrusage` would count its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Decode the files named on standard input."""
    for line in sys.stdin:
        print(json.dumps(report(Path(line.rstrip("\n")))))
    print(json.dumps({"peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
