"""What a camera and a picture desk do to a view: exposure, white balance, blur, grain, JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_JPEG_QUALITY = (40, 96)
_REFERENCE_SIZE = 96


def develop(view: Floats, rng: np.random.Generator) -> Bytes:
    """Turn a view [S, S, 3] (0..255) into the picture that would be published, [S, S, 3] uint8.

    Blur grows with the picture's size, so that a larger picture is not a sharper one; grain is per pixel.
    """
    scale = view.shape[0] / _REFERENCE_SIZE
    exposed = _expose(np.clip(view, 0, 255).astype(np.uint8), rng)
    image = _blur(Image.fromarray(exposed), rng, scale)
    return _compress(_grain(np.asarray(image), rng), rng)


def _expose(pixels: Bytes, rng: np.random.Generator) -> Bytes:
    """Exposure, contrast and white balance through one 256-entry table a channel."""
    gain = np.exp(np.clip(rng.normal(0.0, 0.16), -0.4, 0.3))
    gamma = np.exp(np.clip(rng.normal(0.0, 0.1), -0.2, 0.2))
    balance = np.exp(rng.normal(0.0, 0.035, 3))
    haze = max(0.0, float(rng.normal(0.0, 9.0)))
    ramp = (np.arange(256)[:, None] / 255.0) ** gamma * gain * balance * (255.0 - haze) + haze  # [256, 3]
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def _blur(image: Image.Image, rng: np.random.Generator, scale: float) -> Image.Image:
    """A little out of focus, most of the time; now and then a shaken camera; else sharp."""
    draw = rng.random()
    if draw < 0.3:
        return image
    if draw < 0.9:
        return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.25, 0.75)) * scale))
    radius = float(rng.uniform(0.4, 1.2)) * scale
    return image.filter(ImageFilter.BoxBlur((radius, 0.0) if rng.random() < 0.7 else (0.0, radius)))


def _grain(pixels: Bytes, rng: np.random.Generator) -> Bytes:
    """Sensor noise: mostly in brightness, a third as much in colour. Strength 0..9 of 255."""
    sigma = float(rng.uniform(0.0, 1.0)) ** 2 * 9.0
    luma = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    chroma = rng.standard_normal(pixels.shape, dtype=np.float32)
    noisy = pixels + sigma * (luma + 0.33 * chroma)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _compress(pixels: Bytes, rng: np.random.Generator) -> Bytes:
    """Save as JPEG and load again, with or without halved colour resolution."""
    buffer = io.BytesIO()
    quality = int(rng.integers(*_JPEG_QUALITY))
    halved = 2 if rng.random() < 0.4 else 0
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=halved)
    buffer.seek(0)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
