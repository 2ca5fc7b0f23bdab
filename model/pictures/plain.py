"""Whatever a file holds becomes 8 bits a channel, opaque."""

from __future__ import annotations

import numpy as np
from PIL import Image


def to_plain(image: Image.Image) -> Image.Image:
    """RGB, or L where the file holds no more: a third of the work until it is resized."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
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
