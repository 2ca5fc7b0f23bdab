"""Decoding pictures from strangers: bounded in bytes, pixels and memory, and never a crash.

Only a closed list of formats is opened, the size is read from the header before anything is decoded, and
all that Pillow may raise becomes an `ImageError` with a reason.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

ResizeMode = Literal["center-crop", "squash"]

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF")
# TIFF is left out: libtiff writes its complaints of hostile files straight to stderr, without end.
# Recognised to say "not accepted" instead of "broken"; nothing of them is parsed.
_OTHER_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"8BPS", "PSD"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"icns", "ICNS"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif", "HEIF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
)
# What Pillow's decoders have been seen to raise on hostile files.
_PILLOW_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    SyntaxError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_DRAFT_FACTOR = 1.5  # a JPEG is decoded to at least this many times the wanted side
_LARGE_PIXELS = 8_000_000
# Of Pillow's modules alone: it warns of everything it repairs, and a stranger's file is no news.
_PILLOW_WARNINGS = r"PIL\."
_one_large_image = threading.Lock()  # large pictures are decoded one at a time, which bounds the memory


class ImageReason(StrEnum):
    """Why a picture is refused; the values stand among `worker.errors.Reason`."""

    UNDECODABLE = "image_undecodable"
    FORMAT = "image_format"
    TOO_LARGE = "image_too_large"
    TOO_SMALL = "image_too_small"


class ImageError(ValueError):
    """A picture is refused, with a reason and one line for a person."""

    def __init__(self, reason: ImageReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is still decoded.

    Args:
        max_bytes: of the file.
        max_pixels: of the picture as its header states it; the default costs at most 0.9 GiB while it is
            decoded. Pillow itself refuses more than `2 * PIL.Image.MAX_IMAGE_PIXELS`.
        min_side: pixels; less carries no content.
    """

    max_bytes: int = 20 << 20
    max_pixels: int = 50_000_000
    min_side: int = 2


def decode(data: bytes, *, target: int | None = None, limits: ImageLimits | None = None) -> Image.Image:
    """Decode the first frame, upright, on white where it is transparent. Thread-safe.

    Args:
        data: the file.
        target: least length of the shorter side that is still useful, pixels; JPEGs are decoded no larger
            than needed for it. None for the full size.

    Returns:
        An RGB image, 8 bits a channel.

    Raises:
        ImageError: refused, and why.
    """
    limits = limits or ImageLimits()
    if len(data) > limits.max_bytes:
        raise ImageError(ImageReason.TOO_LARGE, f"{len(data)} bytes, at most {limits.max_bytes} are taken")
    _mute_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
            if image.width * image.height < _LARGE_PIXELS:
                return _load(image, target)
            with _one_large_image:
                return _load(image, target)
    except ImageError:
        raise
    except UnidentifiedImageError as exc:
        raise _unidentified(data) from exc
    except Image.DecompressionBombError as exc:
        raise ImageError(ImageReason.TOO_LARGE, _one_line(exc)) from exc
    except _PILLOW_ERRORS as exc:
        raise ImageError(ImageReason.UNDECODABLE, _one_line(exc)) from exc


def resize_for_model(image: Image.Image, size: int, mode: ResizeMode = "center-crop") -> NDArray[np.uint8]:
    """Resize to the model's input, bicubic with antialiasing.

    Args:
        image: RGB.
        mode: `center-crop` takes the central square, as CLIP does; `squash` takes everything.

    Returns:
        [size, size, 3] uint8 RGB.
    """
    box = _central_square(image.size, size) if mode == "center-crop" else (0, 0, *image.size)
    # cropping through `box` keeps extreme aspect ratios from being blown up first
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _central_square(image_size: tuple[int, int], size: int) -> tuple[float, float, float, float]:
    """What torchvision's `Resize(size)` and `CenterCrop(size)` keep, in the picture's own coordinates.

    Both round to whole pixels of the resized picture; half a pixel there is a visible shift.
    """
    width, height = image_size
    side = min(width, height)
    across, down = size * width // side, size * height // side
    left, top = round((across - size) / 2), round((down - size) / 2)
    right, bottom = left + size, top + size
    return left * width / across, top * height / down, right * width / across, bottom * height / down


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """A JPEG of the whole picture, both sides at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


def _mute_pillow() -> None:
    """Put the filter (back) in front: whoever saves and restores filters, as tests do, takes it away.

    Not `warnings.catch_warnings`, which threads must not share.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or getattr(first[3], "pattern", None) != _PILLOW_WARNINGS:
        warnings.filterwarnings("ignore", module=_PILLOW_WARNINGS)


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageError(
            ImageReason.TOO_LARGE, f"{width}×{height}, at most {limits.max_pixels} pixels are taken"
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            ImageReason.TOO_SMALL, f"{width}×{height}, at least {limits.min_side} a side are needed"
        )


def _load(image: Image.Image, target: int | None) -> Image.Image:
    if target is not None and image.format in ("JPEG", "MPO"):
        scale = target * _DRAFT_FACTOR / min(image.size)
        image.draft(None, (round(image.width * scale), round(image.height * scale)))
    image.load()
    # only after the pixels: a PNG is loaded for its EXIF, and what fails there would pass for bad EXIF
    transpose = _TRANSPOSE.get(_orientation(image))
    upright = _to_rgb(image)
    return upright if transpose is None else upright.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a picture with broken EXIF is taken as it stands."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _PILLOW_ERRORS:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith(("I", "F")):
        return _from_wide(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy is 4 bytes a pixel
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits or floats to 8 bits: whatever exceeds a byte is taken as 16-bit."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=65535.0, neginf=0.0)
    if values.max(initial=0.0) > 255:
        values /= 257.0
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _unidentified(data: bytes) -> ImageError:
    for offset, magic, name in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            return ImageError(ImageReason.FORMAT, f"{name} is not accepted; accepted: {', '.join(FORMATS)}")
    return ImageError(ImageReason.UNDECODABLE, "not an image, or broken at its beginning")


def _one_line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]
