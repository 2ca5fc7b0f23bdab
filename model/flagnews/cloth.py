"""Geometry of a flag in a picture: where it hangs, how it is seen, how its cloth falls.

A flag is a unit square (u to the right, v down) that a homography maps into the picture. Before it is mapped
the cloth is displaced: `along` runs from the side it is fastened at to its free side, `across` is the other
axis. Everything is an inverse map (picture to flag), so only pixels inside the flag's box are ever touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_OUTLINE_STEPS = 17
_MAX_ASPECT = 3.0
_CAMERA_DISTANCE = 3.2
_TRIES = 6
_MARGIN_PX = 1.0
_SMALL_BOX_PX = 700


@dataclass(frozen=True, slots=True)
class Cloth:
    """How cloth leaves its plane; lengths in units of the flag's sides, `waves` and `phase` in turns."""

    sway: float
    sag: float
    waves: float
    phase: float
    slant: float
    gather: float
    relief: float
    hanging: bool

    def offset(self, along: Floats) -> Floats:
        """Displacement across the cloth, 0 where it is fastened. Same shape as `along`."""
        wave = np.sin(2 * np.pi * (self.waves * along + self.phase)) - np.sin(2 * np.pi * self.phase)
        return np.asarray(self.sway * along * wave - self.sag * along * along, dtype=np.float32)

    def shade(self, along: Floats, across: Floats) -> Floats:
        """Brightness factor around 1: folds are lit on one side and dark on the other."""
        turns = self.waves * along + self.slant * across + self.phase
        return np.asarray(1.0 + self.relief * np.cos(2 * np.pi * turns), dtype=np.float32)

    def milder(self, factor: float) -> Cloth:
        """The same cloth with its outline closer to flat."""
        return replace(self, sway=self.sway * factor, sag=self.sag * factor)


@dataclass(frozen=True, slots=True)
class View:
    """Camera angles towards the flag, radians."""

    yaw: float
    pitch: float
    roll: float

    def milder(self, factor: float) -> View:
        """The same view, closer to straight on."""
        return View(self.yaw * factor, self.pitch * factor, self.roll * factor)


@dataclass(frozen=True, slots=True)
class Placement:
    """A flag in a picture: `matrix` [3, 3] maps the unit square to pixels, `outline` [P, 2] is its edge."""

    matrix: NDArray[np.float64]
    outline: NDArray[np.float64]
    cloth: Cloth

    def corner(self, u: float, v: float) -> tuple[float, float]:
        """Pixel position of a point of the flat flag."""
        x, y = _map(self.matrix, np.array([[u, v]]))[0]
        return float(x), float(y)

    def box(self, size: int) -> Box:
        """Left, top, right, bottom in whole pixels, right and bottom exclusive."""
        low, high = np.floor(self.outline.min(axis=0)), np.ceil(self.outline.max(axis=0))
        left, top = (max(0, int(value)) for value in low)
        right, bottom = (min(size, int(value)) for value in high)
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Patch:
    """The flag as seen inside its box: `colour` [h, w, 3] 0..255, `alpha` [h, w] 0..1."""

    colour: Floats
    alpha: Floats
    box: Box


def place(
    cloth: Cloth, view: View, aspect: float, *, area: float, size: int, rng: np.random.Generator
) -> Placement:
    """Put a flag of `area` square pixels somewhere in a picture of `size` pixels, wholly inside it.

    A pose that does not fit is made milder until it does; flags longer than 3:1 are foreshortened to that.

    Raises:
        ValueError: no pose fits (the flag is larger than the picture allows).
    """
    aspect = float(np.clip(aspect, 1 / _MAX_ASPECT, _MAX_ASPECT))
    strength = 1.0
    for _ in range(_TRIES):
        matrix, outline = _pose(cloth.milder(strength), view.milder(strength), aspect, area)
        extent = outline.max(axis=0) - outline.min(axis=0)
        room = size - 2 * _MARGIN_PX - extent
        if (room >= 0).all():
            shift = _MARGIN_PX + rng.random(2) * room - outline.min(axis=0)
            moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ matrix
            return Placement(moved, outline + shift, cloth.milder(strength))
        strength = 0.6 * strength if strength > 0.1 else 0.0
    raise ValueError(f"a flag of {area:.0f} square pixels does not fit into {size} x {size}")


def unfold(flag: Bytes, placement: Placement, size: int) -> Patch:
    """Sample the flag inside its box: inverse map, bilinear, several samples a pixel."""
    box = placement.box(size)
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    fine = 3 if width * height < _SMALL_BOX_PX else 2
    small = _shrink(flag, placement)
    xs = np.asarray(left + (np.arange(width * fine) + 0.5) / fine, dtype=np.float32)
    ys = np.asarray(top + (np.arange(height * fine) + 0.5) / fine, dtype=np.float32)[:, None]
    u, v = _invert(placement.matrix, xs, ys)  # [h*fine, w*fine] each
    cloth = placement.cloth
    along, across = (v, u) if cloth.hanging else (u, v)
    across = across + cloth.offset(along)
    inside = (along >= 0) & (along <= 1) & (across >= 0) & (across <= 1)
    gathered = along + cloth.gather * np.sin(4 * np.pi * along)
    u, v = (across, gathered) if cloth.hanging else (gathered, across)
    colour = _bilinear(small, u, v) * (cloth.shade(along, across) * inside)[..., None]
    alpha = _average(inside[..., None].astype(np.float32), fine)[..., 0]
    mean = _average(colour, fine) / np.maximum(alpha, 1e-6)[..., None]
    return Patch(mean.astype(np.float32), alpha, box)


def _pose(
    cloth: Cloth, view: View, aspect: float, area: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and outline, scaled so that the outline encloses `area`; position is arbitrary."""
    matrix = _homography(_project(aspect, view))
    outline = _map(matrix, _edge(cloth))
    scale = float(np.sqrt(area / _polygon_area(outline)))
    return np.diag([scale, scale, 1.0]) @ matrix, outline * scale


def _project(aspect: float, view: View) -> NDArray[np.float64]:
    """Corners [4, 2] of a turned rectangle as seen, clockwise from the top left."""
    half_w, half_h = np.sqrt(aspect) / 2, 1 / np.sqrt(aspect) / 2
    flat = np.array([[-half_w, -half_h, 0], [half_w, -half_h, 0], [half_w, half_h, 0], [-half_w, half_h, 0]])
    cy, sy, cp, sp = np.cos(view.yaw), np.sin(view.yaw), np.cos(view.pitch), np.sin(view.pitch)
    cr, sr = np.cos(view.roll), np.sin(view.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned = flat @ (roll @ pitch @ yaw).T
    return np.asarray(turned[:, :2] * (_CAMERA_DISTANCE / (_CAMERA_DISTANCE + turned[:, 2:])))


def _homography(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit square to quadrilateral, [3, 3].

    Source: Heckbert, Fundamentals of Texture Mapping and Image Warping (1989), section 2.2.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    dx1, dx2, dx3 = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy3 = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    den = dx1 * dy2 - dx2 * dy1
    g, h = (dx3 * dy2 - dx2 * dy3) / den, (dx1 * dy3 - dx3 * dy1) / den
    return np.array(
        [
            [x1 - x0 + g * x1, x3 - x0 + h * x3, x0],
            [y1 - y0 + g * y1, y3 - y0 + h * y3, y0],
            [g, h, 1.0],
        ]
    )


def _edge(cloth: Cloth) -> NDArray[np.float64]:
    """Outline of the displaced cloth in flag coordinates, [P, 2]."""
    along = np.linspace(0, 1, _OUTLINE_STEPS, dtype=np.float32)
    offset = cloth.offset(along)
    along_both = np.concatenate([along, along[::-1]])
    across = np.concatenate([-offset, (1 - offset)[::-1]])
    columns = (across, along_both) if cloth.hanging else (along_both, across)
    return np.stack(columns, axis=1).astype(np.float64)


def _map(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a homography to points [P, 2]."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _invert(matrix: NDArray[np.float64], xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Flag coordinates (u, v) of the pixel grid xs [W] by ys [H, 1]."""
    m = np.linalg.inv(matrix).astype(np.float32)
    depth = m[2, 0] * xs + m[2, 1] * ys + m[2, 2]
    return (m[0, 0] * xs + m[0, 1] * ys + m[0, 2]) / depth, (m[1, 0] * xs + m[1, 1] * ys + m[1, 2]) / depth


def _shrink(flag: Bytes, placement: Placement) -> Bytes:
    """Average the flag down to 1.5 times its size in the picture, so that thin stripes keep their colour."""
    corners = _map(placement.matrix, np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width, height = (int(np.ceil(1.5 * max(sides[i], sides[i + 2]))) for i in (0, 1))
    target = (min(flag.shape[1], max(2, width)), min(flag.shape[0], max(2, height)))
    if target == (flag.shape[1], flag.shape[0]):
        return flag
    return np.asarray(Image.fromarray(flag).resize(target, Image.Resampling.BOX))


def _bilinear(flag: Bytes, u: Floats, v: Floats) -> Floats:
    """Colours at (u, v), [..., 3]; coordinates beyond the edge take the edge's colour."""
    height, width = flag.shape[:2]
    x = np.clip(u * width - 0.5, 0, width - 1)
    y = np.clip(v * height - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(np.int32), width - 2), np.minimum(y.astype(np.int32), height - 2)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    texels = flag.reshape(-1, 3).astype(np.float32)
    at = y0 * width + x0
    above = texels[at] * (1 - fx) + texels[at + 1] * fx
    below = texels[at + width] * (1 - fx) + texels[at + width + 1] * fx
    return np.asarray(above * (1 - fy) + below * fy, dtype=np.float32)


def _average(values: Floats, fine: int) -> Floats:
    """Mean over blocks of fine x fine samples: [h*fine, w*fine, C] to [h, w, C]."""
    height, width, channels = values.shape
    blocks = values.reshape(height // fine, fine, width // fine, fine, channels)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _polygon_area(points: NDArray[np.float64]) -> float:
    """Shoelace formula; points [P, 2]."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
