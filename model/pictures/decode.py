"""Decoding pictures from strangers: bounded in bytes, pixels and memory, and never a crash.

Only a closed list of formats is opened, the size is read from the header before anything is decoded, and
all that Pillow may raise becomes an `ImageError` with a reason.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from PIL import Image, UnidentifiedImageError

from model.pictures.picture import Picture, ResizeMode, resize_for_model, thumbnail, upright
from model.pictures.pixel_budget import PixelBudget
from model.pictures.plain import to_plain
from model.pictures.progressive import without_unseen_scans

__all__ = [
    "FORMATS",
    "ImageError",
    "ImageLimits",
    "ImageReason",
    "Picture",
    "ResizeMode",
    "decode",
    "decode_picture",
    "resize_for_model",
    "thumbnail",
]

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
_ORIENTATION_TAG = 0x0112
_DRAFT_FACTOR = 1.5  # a JPEG is decoded to at least this many times the wanted side
BYTES_A_PIXEL = 18  # the most that decoding holds, in any format, while it becomes RGB
# Of Pillow's modules alone: it warns of everything it repairs, and a stranger's file is no news.
_PILLOW_WARNINGS = r"PIL\."
_budget = PixelBudget(64_000_000)  # of all who bring none of their own


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
        max_pixels: of the picture as its header states it. Pillow itself refuses more than
            `2 * PIL.Image.MAX_IMAGE_PIXELS`.
        min_side: pixels; less carries no content.
        budget: of all that is decoded at the same time: a pixel costs at most `BYTES_A_PIXEL`, one of a
            JPEG that is shrunk on load less.
    """

    max_bytes: int = 20 << 20
    max_pixels: int = 50_000_000
    min_side: int = 2
    budget: PixelBudget = field(default=_budget, compare=False, repr=False)


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
    image = decode_picture(data, target=target, limits=limits).image
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_picture(
    data: bytes, *, target: int | None = None, longer_side: int = 0, limits: ImageLimits | None = None
) -> Picture:
    """As `decode`, with what it takes to crop as exactly as from the full size.

    Blocks while others decode as many pixels as `limits.budget` has.

    Args:
        target: as `decode`.
        longer_side: least length of the longer side that is still useful, pixels; without a target it says
            nothing.

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
            shrink = 1 if target is None else _shrink(image, target, longer_side)
            with limits.budget.take(_cost(image, data, shrink)):
                return _load(image, data, shrink)
    except ImageError:
        raise
    except UnidentifiedImageError as exc:
        raise _unidentified(data) from exc
    except Image.DecompressionBombError as exc:
        raise ImageError(ImageReason.TOO_LARGE, _one_line(exc)) from exc
    except _PILLOW_ERRORS as exc:
        raise ImageError(ImageReason.UNDECODABLE, _one_line(exc)) from exc


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


def _shrink(image: Image.Image, target: int, longer_side: int) -> int:
    """The largest divisor, 1 to 8, with which a JPEG's decoder still gives what is wanted."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    shorter, longer = min(image.size), max(image.size)
    fitting = [s for s in (8, 4, 2) if shorter >= s * target * _DRAFT_FACTOR and longer >= s * longer_side]
    return next(iter(fitting), 1)


def _cost(image: Image.Image, data: bytes, shrink: int) -> int:
    """Pixels to charge: a JPEG's decoder holds only those of the result, and what several scans need.

    Their coefficients are two bytes a component, at full size.
    """
    pixels = image.width * image.height
    shrunk = pixels // shrink**2
    return min(pixels, shrunk + pixels // 2) if _in_scans(image, data) else max(1, shrunk)


def _in_scans(image: Image.Image, data: bytes) -> bool:
    """Whether a JPEG's decoder holds all coefficients: progressive, or components in scans of their own."""
    if image.format not in ("JPEG", "MPO"):
        return False
    end = vars(image)["fp"].tell()  # Pillow has read up to the end of the first scan's header
    scan = data.rfind(b"\xff\xda", max(0, end - 16), end)
    return bool(image.info.get("progressive")) or scan < 0 or data[scan + 4] < len(image.getbands())


def _load(image: Image.Image, data: bytes, shrink: int) -> Picture:
    full_size, pixels = image.size, image
    if shrink > 1:
        pixels = _shrunk(image, data, shrink)
    pixels.load()
    shrink_by = 1 if pixels.size == full_size else shrink
    # only after the pixels: a PNG is loaded for its EXIF, and what fails there would pass for bad EXIF
    orientation = _orientation(image)
    return upright(to_plain(pixels), full_size, shrink_by, orientation)


def _shrunk(image: Image.Image, data: bytes, shrink: int) -> Image.Image:
    """The picture to be loaded at 1/`shrink` of its size."""
    small = image.width // shrink, image.height // shrink
    lean = _without_unseen_scans(image, data, shrink, small) if image.info.get("progressive") else None
    if lean is None:
        image.draft(None, small)
        return image
    return lean


def _without_unseen_scans(
    image: Image.Image, data: bytes, shrink: int, small: tuple[int, int]
) -> Image.Image | None:
    """The same picture, loaded from fewer scans; None where the file has to be read as it is."""
    reduced = without_unseen_scans(data, shrink)
    if reduced is None:
        return None
    try:
        with Image.open(io.BytesIO(reduced), formats=("JPEG",)) as lean:
            if (lean.size, lean.mode) != (image.size, image.mode):
                return None
            lean.draft(None, small)
            lean.load()
            return lean
    except _PILLOW_ERRORS:
        return None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a picture with broken EXIF is taken as it stands."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _PILLOW_ERRORS:
        return 1


def _unidentified(data: bytes) -> ImageError:
    for offset, magic, name in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            return ImageError(ImageReason.FORMAT, f"{name} is not accepted; accepted: {', '.join(FORMATS)}")
    return ImageError(ImageReason.UNDECODABLE, "not an image, or broken at its beginning")


def _one_line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]
