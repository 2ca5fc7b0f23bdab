"""What a body is by its first bytes; what its server says about it does not count."""

from __future__ import annotations

from model.pictures.decode import FORMATS
from worker.errors import InvalidPost, Reason

SNIFFED_BYTES = 512
_WEBP, _FTYP = slice(8, 12), slice(4, 8)
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML"),
    (b"{", "JSON"),
    (b"%pdf", "a PDF"),
    (b"ii*\x00", "a TIFF"),
    (b"mm\x00*", "a TIFF"),
    (b"\x1f\x8b", "compressed, which was not asked for"),
)


def is_image(start: bytes) -> bool:
    """Whether a file that begins so may be of one of `model.pictures.decode.FORMATS`."""
    if start.startswith(b"RIFF"):
        return start[_WEBP] == b"WEBP"
    if start[_FTYP] == b"ftyp":
        return start[8:12] in _BRANDS
    return start.startswith(_STARTS)


def check_image(start: bytes, shown: str) -> None:
    """Refuse what is no image, from its first bytes (512 are enough).

    Raises:
        InvalidPost: it is none, or of a format that is not accepted.
    """
    if not start:
        raise InvalidPost(Reason.IMAGE_FORMAT, f"{shown}: no image: the body is empty")
    if not is_image(start):
        raise InvalidPost(
            Reason.IMAGE_FORMAT, f"{shown}: no image: it is {_name(start)}; accepted: {', '.join(FORMATS)}"
        )


def _name(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for magic, name in _OTHERS if text.startswith(magic)), "of no known format")
