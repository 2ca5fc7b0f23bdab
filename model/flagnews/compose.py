"""One flag in a scene, as a news photographer would catch it: on a pole, a wall, a lapel or a banner.

The flag is never seen from behind: mirrored, Ireland would show Ivory Coast's flag. For the same reason a
banner that hangs vertically is rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from model.flagnews.camera import develop
from model.flagnews.cloth import Box, Bytes, Cloth, Floats, Patch, View, place, unfold
from model.flagnews.staging import Setting, put, set_up

SHARE_RANGE = (0.015, 0.20)
_SMALLEST_SIZE = 32
_LARGEST_LAPEL_SHARE = 0.06
_VERTICAL_PROBABILITY = 0.12
_BACKGROUND_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture with one flag in it.

    `pixels` [S, S, 3] uint8; `box` left, top, right, bottom of the flag, right and bottom exclusive; `share`
    is the part of the picture's area that the flag takes, counted before anything covers it.
    """

    pixels: Bytes
    box: Box
    share: float


def draw_share(rng: np.random.Generator) -> float:
    """A flag's share of the picture: log-uniform over `SHARE_RANGE`."""
    low, high = SHARE_RANGE
    return float(np.clip(np.exp(rng.uniform(math.log(low), math.log(high))), low, high))


def take_photograph(
    scene: Bytes, flag: Bytes, rng: np.random.Generator, *, share: float, size: int
) -> Photograph:
    """Put a flag into a scene and photograph it.

    Args:
        scene: [H, W, 3] uint8, square or not; a random part of it becomes the picture.
        flag: [H, W, 3] uint8, hoist on the left.
        share: wanted share of the picture's area, within `SHARE_RANGE`.
        size: side of the picture in pixels, at least 32.

    Raises:
        ValueError: a shape, the share or the size is out of range.
    """
    _check(scene, flag, share, size)
    setting = _draw_setting(rng, share)
    if setting == "banner" and rng.random() < _VERTICAL_PROBABILITY:
        flag = np.ascontiguousarray(flag.transpose(1, 0, 2))  # hoist on top, upper edge on the viewer's left
    aspect = flag.shape[1] / flag.shape[0]
    placement = place(
        _draw_cloth(setting, rng),
        _draw_view(setting, rng),
        aspect,
        area=share * size * size,
        size=size,
        rng=rng,
    )
    backdrop = set_up(_reframe(scene, rng, size), placement, setting, rng)
    patch = unfold(flag, placement, size)
    view = put(backdrop, _light(patch, backdrop, rng), setting, rng)
    return Photograph(develop(view, rng), patch.box, float(patch.alpha.sum()) / (size * size))


def load_backgrounds(folder: Path, size: int) -> list[Bytes]:
    """Photographs of a folder as square [size, size, 3] uint8 scenes, in the order of their names.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: a picture cannot be read; the message names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of backgrounds at {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _BACKGROUND_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no picture ({', '.join(sorted(_BACKGROUND_SUFFIXES))}) in {folder}")
    return [load_background(path, size) for path in paths]


def load_background(path: Path, size: int) -> Bytes:
    """The middle square of one photograph, upright, [size, size, 3] uint8.

    Raises:
        ValueError: the file is not a picture that can be read.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise ValueError(f"cannot read the background {path}: {exc}") from exc


def _check(scene: Bytes, flag: Bytes, share: float, size: int) -> None:
    for name, pixels in (("scene", scene), ("flag", flag)):
        fits = pixels.shape[2:] == (3,) and min(pixels.shape[:2]) > 1 and pixels.dtype == np.uint8
        if not fits:
            raise ValueError(
                f"{name} must be [H, W, 3] uint8 of at least 2 x 2, got {pixels.shape} {pixels.dtype}"
            )
    if not SHARE_RANGE[0] <= share <= SHARE_RANGE[1]:
        raise ValueError(f"share must lie in {SHARE_RANGE}, got {share}")
    if size < _SMALLEST_SIZE:
        raise ValueError(f"size must be at least {_SMALLEST_SIZE} pixels, got {size}")


def _draw_setting(rng: np.random.Generator, share: float) -> Setting:
    draw = rng.random()
    if draw < 0.5:
        return "pole"
    if draw < 0.7:
        return "wall"
    if draw < 0.85 or share > _LARGEST_LAPEL_SHARE:
        return "banner"
    return "lapel"


def _draw_cloth(setting: Setting, rng: np.random.Generator) -> Cloth:
    """Cloth flies from a pole, lies nearly flat on a wall, is stiff on a lapel, falls in folds from a bar."""
    wind = {"pole": 1.0, "wall": 0.25, "lapel": 0.0, "banner": 0.3}[setting] * float(rng.uniform(0.3, 1.0))
    return Cloth(
        sway=0.12 * wind,
        sag=(0.2 * wind * float(rng.uniform(-0.5, 1.0))) if setting == "pole" else 0.0,
        waves=float(rng.uniform(0.8, 2.4)),
        phase=float(rng.random()),
        slant=float(rng.uniform(1.5, 3.0) if setting == "banner" else rng.uniform(-0.5, 0.5)),
        gather=0.03 * wind,
        relief=0.26 * wind + (0.12 if setting == "banner" else 0.02),
        hanging=setting == "banner",
    )


def _draw_view(setting: Setting, rng: np.random.Generator) -> View:
    turn = {"pole": 0.45, "wall": 0.6, "lapel": 0.35, "banner": 0.35}[setting]
    tilt = {"pole": 0.2, "wall": 0.06, "lapel": 0.2, "banner": 0.06}[setting]
    yaw, pitch = rng.uniform(-turn, turn), rng.uniform(-0.35, 0.35)
    return View(float(yaw), float(pitch), float(np.clip(rng.normal(0.0, tilt), -0.5, 0.5)))


def _reframe(scene: Bytes, rng: np.random.Generator, size: int) -> Image.Image:
    """A random square of at least 80 % of the scene's shorter side, half the time mirrored."""
    height, width = scene.shape[:2]
    side = float(rng.uniform(0.8, 1.0)) * min(height, width)
    left, top = float(rng.random()) * (width - side), float(rng.random()) * (height - side)
    image = Image.fromarray(scene).resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side), reducing_gap=2.0
    )
    return ImageOps.mirror(image) if rng.random() < 0.5 else image


def _light(patch: Patch, backdrop: Floats, rng: np.random.Generator) -> Patch:
    """Light the flag as its surroundings are lit, fade its cloth, let a soft shadow run over it."""
    left, top, right, bottom = patch.box
    around = float(backdrop[top:bottom, left:right].mean())
    gain = 0.72 + 0.28 * around / 128.0
    faded = float(rng.uniform(0.0, 0.16))
    grey = patch.colour.mean(axis=2, keepdims=True)
    ramp_x = np.linspace(-1, 1, right - left, dtype=np.float32) * float(rng.uniform(-0.13, 0.13))
    ramp_y = np.linspace(-1, 1, bottom - top, dtype=np.float32) * float(rng.uniform(-0.13, 0.13))
    shade = np.clip(gain * (1.0 + ramp_x[None, :] + ramp_y[:, None]), 0.5, 1.25)[..., None]
    colour = (patch.colour + faded * (grey - patch.colour)) * shade
    return Patch(np.clip(colour, 0, 255), patch.alpha, patch.box)
