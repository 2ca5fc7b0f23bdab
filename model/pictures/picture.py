"""A decoded picture, and what is made of it: the model's input, and a thumbnail."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ResizeMode = Literal["center-crop", "squash"]
_REDUCING_GAP = 3.0  # averaged in whole pixels down to this many times the size: 54 dB from not doing so
Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, upright, maybe shrunk on load.

    Args:
        image: RGB or L, 8 bits a channel.
        full_size: width and height of the upright picture as the file holds it, pixels.
        extent: left, top, right, bottom of the picture in `image`, whose pixels on one side are padded
            where `full_size` is no multiple of what it was shrunk by.
    """

    image: Image.Image
    full_size: tuple[int, int]
    extent: Box

    def for_model(self, size: int, mode: ResizeMode = "center-crop") -> NDArray[np.uint8]:
        """What `resize_for_model` makes of the picture as the file holds it, [size, size, 3] uint8 RGB."""
        left, top, right, bottom = self.extent
        if mode == "center-crop":
            square = _central_square(self.full_size, size)
            across, down = (right - left) / self.full_size[0], (bottom - top) / self.full_size[1]
            box = _within(self.image.size, left, top, square, across, down)
        else:
            box = self.extent
        return _resized(self.image, size, box)

    def thumbnail(self, side: int = 256) -> bytes:
        """A JPEG of the whole picture, both sides at most `side` pixels."""
        scale = min(1.0, side / max(self.image.size))
        width, height = (max(1, round(length * scale)) for length in self.image.size)
        small = self.image.resize(
            (width, height), Image.Resampling.BICUBIC, box=self.extent, reducing_gap=2.0
        )
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85)
        return file.getvalue()


def upright(image: Image.Image, full_size: tuple[int, int], shrink: int, orientation: int) -> Picture:
    """Turn a picture; what is padded on its right and at its bottom then lies elsewhere."""
    transpose = _TRANSPOSE.get(orientation)
    if transpose is not None:
        image = image.transpose(transpose)
        full_size = full_size[::-1] if orientation >= 5 else full_size
    width, height = full_size[0] / shrink, full_size[1] / shrink
    left = image.width - width if orientation in (2, 3, 6, 7) else 0.0
    top = image.height - height if orientation in (3, 4, 7, 8) else 0.0
    return Picture(image, full_size, (left, top, left + width, top + height))


def resize_for_model(image: Image.Image, size: int, mode: ResizeMode = "center-crop") -> NDArray[np.uint8]:
    """Resize to the model's input, bicubic with antialiasing.

    Args:
        image: RGB or L, the whole picture.
        mode: `center-crop` takes the central square, as CLIP does; `squash` takes everything.

    Returns:
        [size, size, 3] uint8 RGB.
    """
    return _whole(image).for_model(size, mode)


def thumbnail(image: Image.Image, side: int = 256) -> bytes:
    """A JPEG of the whole picture, both sides at most `side` pixels."""
    return _whole(image).thumbnail(side)


def _whole(image: Image.Image) -> Picture:
    return Picture(image, image.size, (0, 0, *image.size))


def _resized(image: Image.Image, size: int, box: Box) -> NDArray[np.uint8]:
    # cropping through `box` keeps extreme aspect ratios from being blown up first
    small = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCING_GAP)
    return np.asarray(small if small.mode == "RGB" else small.convert("RGB"))


def _central_square(image_size: tuple[int, int], size: int) -> Box:
    """What torchvision's `Resize(size)` and `CenterCrop(size)` keep, in the picture's own coordinates.

    Both round to whole pixels of the resized picture; half a pixel there is a visible shift.
    """
    width, height = image_size
    side = min(width, height)
    across, down = size * width // side, size * height // side
    left, top = round((across - size) / 2), round((down - size) / 2)
    right, bottom = left + size, top + size
    return left * width / across, top * height / down, right * width / across, bottom * height / down


def _within(
    image_size: tuple[int, int],
    left: float,
    top: float,
    square: Box,
    across: float,
    down: float,
) -> Box:
    """A box of the full picture in the shrunk one; rounding must not take it over the edge."""
    width, height = image_size
    return (
        left + square[0] * across,
        top + square[1] * down,
        min(width, left + square[2] * across),
        min(height, top + square[3] * down),
    )
