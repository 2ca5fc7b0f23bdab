"""What stands around a flag: the pole, wall, jacket or bar that holds it, its shadow, and what covers it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from model.flagnews.cloth import Floats, Patch, Placement

Setting = Literal["pole", "wall", "lapel", "banner"]

LARGEST_COVER = 0.25  # part of the flag that may be hidden
_COVER_PROBABILITY = 0.35


def set_up(image: Image.Image, placement: Placement, setting: Setting, rng: np.random.Generator) -> Floats:
    """Draw what holds the flag into the scene: a pole, a piece of wall, a jacket, a bar. [S, S, 3]."""
    if setting == "lapel":
        _draw_jacket(image, placement, rng)
    elif setting == "wall" and rng.random() < 0.5:
        _draw_panel(image, placement, rng)
    canvas = np.asarray(image).astype(np.float32)
    if setting == "pole":
        _draw_rod(canvas, placement.corner(0, -0.08), placement.corner(0, float(rng.uniform(1.6, 6.0))), rng)
    elif setting == "banner":
        _draw_rod(canvas, placement.corner(-0.06, 0), placement.corner(1.06, 0), rng)
    return canvas


def _draw_rod(
    canvas: Floats, start: tuple[float, float], end: tuple[float, float], rng: np.random.Generator
) -> None:
    """Blend an anti-aliased rod from start to end into the canvas, in place."""
    size = canvas.shape[0]
    radius = size * float(rng.uniform(0.004, 0.010))
    grid = np.arange(size, dtype=np.float32) + 0.5
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = grid[None, :] - start[0], grid[:, None] - start[1]
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    distance = np.hypot(x - along * dx, y - along * dy)
    alpha = np.clip(radius + 0.5 - distance, 0.0, 1.0)[..., None]
    grey = float(rng.uniform(40, 220))
    canvas += alpha * (np.array([grey * 1.03, grey, grey * 0.94], dtype=np.float32) - canvas)


def _draw_jacket(image: Image.Image, placement: Placement, rng: np.random.Generator) -> None:
    """A speaker's chest around the flag: jacket, shirt, the lapel's edge."""
    size = image.width
    x, y = placement.corner(0.5, 0.5)
    side = 1 if x > size / 2 else -1  # shirt and tie lie towards the middle of the picture
    plain = rng.random() < 0.75
    cloth = (
        np.clip(rng.integers(15, 90) + rng.integers(-8, 9, 3), 5, 255) if plain else rng.integers(30, 210, 3)
    )
    shirt = tuple(int(value) for value in rng.integers(165, 250) + rng.integers(-18, 6, 3))
    jacket = tuple(int(value) for value in cloth)
    fold = tuple(int(value * 0.6) for value in cloth)
    reach = size * float(rng.uniform(0.22, 0.34))
    draw = ImageDraw.Draw(image)
    middle = x - side * reach
    shoulder = max(0.0, y - size * float(rng.uniform(0.2, 0.4)))
    outer = x + side * reach
    far = 2 * middle - outer
    draw.polygon(
        [
            (far, size),
            (far, shoulder + 0.06 * size),
            (middle, shoulder - 0.08 * size),
            (outer, shoulder + 0.06 * size),
            (outer, size),
        ],
        jacket,
    )
    draw.polygon(
        [(middle - reach * 0.5, shoulder), (middle + reach * 0.5, shoulder), (middle, y + reach)], shirt
    )
    draw.line(
        [(middle + side * reach * 0.5, shoulder), (middle, y + reach), (middle, size)],
        fold,
        width=max(1, size // 64),
    )


def _draw_panel(image: Image.Image, placement: Placement, rng: np.random.Generator) -> None:
    """A plain piece of wall, cloth or board behind the flag."""
    size = image.width
    centre = placement.outline.mean(axis=0)
    reach = (placement.outline.max(axis=0) - placement.outline.min(axis=0)) * rng.uniform(0.6, 1.3, 2)
    low, high = np.clip(centre - reach, 0, size), np.clip(centre + reach, 0, size)
    colour = rng.uniform(50, 225) + rng.normal(0, 22, 3)
    ImageDraw.Draw(image).rectangle(
        (*low.tolist(), *high.tolist()), fill=tuple(int(value) for value in np.clip(colour, 0, 255))
    )


def put(backdrop: Floats, patch: Patch, setting: Setting, rng: np.random.Generator) -> Floats:
    """Lay the flag over the backdrop, [S, S, 3]; first its shadow where there is something to fall on."""
    left, top, right, bottom = patch.box
    alpha = patch.alpha
    if setting in ("wall", "lapel"):
        _cast_shadow(backdrop, patch)
    if rng.random() < _COVER_PROBABILITY:
        cover = draw_cover(alpha, rng)
        if rng.random() < 0.4:
            alpha = alpha * (1 - cover)  # what stands in the scene reaches in front of the flag
        else:
            thing = rng.uniform(15, 215, 3).astype(np.float32)
            patch = Patch(patch.colour + cover[..., None] * (thing - patch.colour), alpha, patch.box)
    area = backdrop[top:bottom, left:right]
    area += alpha[..., None] * (patch.colour - area)
    return backdrop


def _cast_shadow(backdrop: Floats, patch: Patch) -> None:
    """Darken the backdrop, in place, where the flag's shadow falls: down and to the right, soft."""
    size = backdrop.shape[0]
    reach = max(1, size // 64)
    left, top = patch.box[:2]
    mask = Image.new("L", (size, size))
    mask.paste(Image.fromarray((patch.alpha * 255).astype(np.uint8)), (left + reach, top + reach))
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(reach)), dtype=np.float32)[..., None] / 255.0
    backdrop *= 1.0 - 0.45 * soft


def draw_cover(alpha: Floats, rng: np.random.Generator) -> Floats:
    """What stands in front of the flag, [h, w] 0..1: at most `LARGEST_COVER` of it.

    A distance field is cut at the quantile that covers the wanted part, so the bound holds for every shape.
    """
    height, width = alpha.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    angle = float(rng.uniform(0, 2 * math.pi))
    lean = math.cos(angle) * x + math.sin(angle) * y
    draw = rng.random()
    if draw < 0.5:  # heads, a hedge: a bumpy edge from below
        bumps = np.abs(np.sin(x * float(rng.uniform(2, 6)) + float(rng.uniform(0, 6))))
        field = -y - 0.35 * bumps + 0.2 * lean
    elif draw < 0.75:  # a post or a cable
        field = np.abs(math.sin(angle) * 0.3 * y + x - float(rng.uniform(-0.8, 0.8)))
    else:  # a head or a balloon at the edge
        field = np.hypot(x - 1.1 * math.cos(angle), y - 1.1 * math.sin(angle))
    field = np.broadcast_to(field, alpha.shape)
    seen = field[alpha > 0.5]
    if seen.size == 0:
        return np.zeros_like(alpha)
    edge = float(np.quantile(seen, float(rng.uniform(0.05, LARGEST_COVER))))
    return np.clip((edge - field) / 0.08, 0.0, 1.0).astype(np.float32)
