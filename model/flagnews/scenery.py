"""The things scenes are made of: a canvas with light on it, and clutter (people, vehicles, windows, awnings).

Clutter wears the colours of flags on purpose: boards, clothes, cars or striped awnings stand in every kind of
scene, so that a colour by itself does not give the flag away. None of them repeats a flag's layout.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]

_FINE = 2  # drawn at twice the size and reduced
_PAINT_HUES = (
    0.0,
    0.0,
    0.08,
    0.14,
    0.35,
    0.56,
    0.62,
    0.62,
)  # reds and blues are as common on things as on flags


@dataclass(frozen=True, slots=True)
class Mood:
    """Light of a time and weather: sky above and at the horizon, the tint of everything, lamps lit or not."""

    name: str
    sky_top: Colour
    sky_low: Colour
    tint: tuple[float, float, float]
    contrast: float
    lamps: bool


TRAIN_MOODS = (
    Mood("clear noon", (62, 120, 200), (176, 210, 238), (1.0, 1.0, 1.0), 1.0, False),
    Mood("overcast", (150, 156, 164), (200, 202, 204), (0.92, 0.94, 0.97), 0.8, False),
    Mood("sunset", (88, 72, 120), (250, 160, 84), (1.08, 0.88, 0.72), 1.0, False),
    Mood("night", (8, 10, 28), (38, 36, 58), (0.42, 0.44, 0.58), 1.0, True),
    Mood("morning fog", (196, 200, 204), (224, 222, 216), (1.02, 1.0, 0.96), 0.55, False),
    Mood("storm", (52, 58, 68), (112, 118, 122), (0.68, 0.72, 0.76), 0.9, False),
    Mood("dust", (190, 160, 110), (228, 204, 158), (1.06, 0.96, 0.76), 0.75, False),
    Mood("winter", (140, 170, 204), (222, 230, 240), (0.95, 1.0, 1.1), 0.85, False),
    Mood("evening", (30, 44, 92), (150, 120, 140), (0.66, 0.62, 0.76), 1.0, True),
    Mood("bleached", (206, 220, 228), (246, 246, 240), (1.14, 1.12, 1.06), 0.85, False),
)
TEST_MOODS = (
    Mood("late morning", (84, 146, 212), (200, 220, 228), (1.05, 1.02, 0.96), 0.95, False),
    Mood("drizzle", (120, 130, 138), (168, 176, 180), (0.8, 0.86, 0.9), 0.75, False),
    Mood("dawn", (120, 110, 160), (244, 190, 170), (0.98, 0.86, 0.88), 0.9, False),
    Mood("floodlit night", (4, 6, 14), (22, 26, 40), (0.58, 0.58, 0.54), 1.1, True),
    Mood("haze", (178, 190, 196), (216, 214, 200), (0.98, 0.99, 0.92), 0.65, False),
)


class Canvas:
    """A square picture drawn in unit coordinates, x to the right, y down; sizes are parts of its side."""

    def __init__(self, size: int, mood: Mood, rng: np.random.Generator) -> None:
        self.mood = mood
        self.rng = rng
        self._size = size
        self._side = size * _FINE
        self._image = Image.new("RGB", (self._side, self._side))
        self._draw = ImageDraw.Draw(self._image)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def count(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        side = self._side
        left, right = sorted((x0 * side, x1 * side))
        top, bottom = sorted((y0 * side, y1 * side))
        self._draw.rectangle((left, top, right, bottom), fill=colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        side = self._side
        self._draw.ellipse(
            ((x - radius_x) * side, (y - radius_y) * side, (x + radius_x) * side, (y + radius_y) * side),
            fill=colour,
        )

    def line(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        side = self._side
        ends = [(start[0] * side, start[1] * side), (end[0] * side, end[1] * side)]
        self._draw.line(ends, fill=colour, width=max(1, round(width * side)))

    def gradient(self, y0: float, y1: float, upper: Colour, lower: Colour) -> None:
        """Fill the full width from y0 to y1 with a vertical gradient."""
        top, bottom = round(y0 * self._side), round(y1 * self._side)
        if bottom <= top:
            return
        steps = np.linspace(0, 1, bottom - top)[:, None]
        column = np.array(upper) * (1 - steps) + np.array(lower) * steps  # [h, 3]
        strip = Image.fromarray(column.astype(np.uint8)[:, None, :])
        self._image.paste(strip.resize((self._side, bottom - top), Image.Resampling.NEAREST), (0, top))

    def sky(self, horizon: float) -> None:
        """Sky down to the horizon, with clouds or a low light now and then."""
        self.gradient(0, horizon, self.mood.sky_top, self.mood.sky_low)
        if self.chance(0.6):
            cloud = shade(self.mood.sky_low, self.uniform(0.85, 1.15))
            for _ in range(self.count(2, 7)):
                x, y = self.uniform(0, 1), self.uniform(0, horizon * 0.7)
                for _ in range(3):
                    self.ellipse(
                        x + self.uniform(-0.1, 0.1),
                        y,
                        self.uniform(0.04, 0.14),
                        self.uniform(0.01, 0.03),
                        cloud,
                    )

    def finish(self, roughness: float) -> Bytes:
        """Reduce, lay texture and light over it: [S, S, 3] uint8. `roughness` is texture in 1/255."""
        pixels = np.asarray(
            self._image.resize((self._size, self._size), Image.Resampling.BOX), dtype=np.float32
        )
        coarse = self.rng.standard_normal((9, 9)).astype(np.float32)
        clouds = Image.fromarray(coarse).resize((self._size, self._size), Image.Resampling.BICUBIC)
        fine = self.rng.standard_normal(pixels.shape[:2], dtype=np.float32)
        texture = roughness * (fine + np.asarray(clouds))[..., None]
        tint = np.array(self.mood.tint, dtype=np.float32)
        lit = ((pixels - 128) * self.mood.contrast + 128 + texture) * tint
        return np.asarray(np.clip(lit, 0, 255), dtype=np.uint8)


def vivid(rng: np.random.Generator) -> Colour:
    """A strong colour, as paint, cloth and plastic have it; white and near-black included."""
    draw = rng.random()
    if draw < 0.12:
        return (235, 235, 230)
    if draw < 0.2:
        return (30, 30, 34)
    hue = rng.choice(_PAINT_HUES) + rng.normal(0, 0.02) if rng.random() < 0.65 else rng.random()
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.5, 0.95), rng.uniform(0.35, 0.92))
    return int(red * 255), int(green * 255), int(blue * 255)


def dull(rng: np.random.Generator, low: int = 60, high: int = 200) -> Colour:
    """Stone, plaster, asphalt, wood: a grey with a hint of warmth or cold."""
    level, warmth = int(rng.integers(low, high)), int(rng.integers(-16, 28))
    return clip(level + warmth, level, level - warmth)


def skin(rng: np.random.Generator) -> Colour:
    level = rng.uniform(0.25, 1.0)
    return clip(int(240 * level), int(195 * level), int(165 * level))


def shade(colour: Colour, factor: float) -> Colour:
    return clip(*(int(channel * factor) for channel in colour))


def clip(red: int, green: int, blue: int) -> Colour:
    return min(255, max(0, red)), min(255, max(0, green)), min(255, max(0, blue))


def person(canvas: Canvas, x: float, feet: float, height: float) -> None:
    """A standing figure: legs, coat or shirt, head."""
    rng = canvas.rng
    top, clothes = feet - height, vivid(rng) if canvas.chance(0.6) else dull(rng, 20, 160)
    width = height * canvas.uniform(0.11, 0.16)
    legs = dull(rng, 20, 110)
    canvas.rectangle(x - width * 0.7, feet - height * 0.5, x - width * 0.1, feet, legs)
    canvas.rectangle(x + width * 0.1, feet - height * 0.5, x + width * 0.7, feet, legs)
    shoulders = top + height * 0.18
    hem = feet - height * canvas.uniform(0.3, 0.5)
    canvas.polygon(
        [(x - width, shoulders), (x + width, shoulders), (x + width * 0.8, hem), (x - width * 0.8, hem)],
        clothes,
    )
    canvas.ellipse(x, top + height * 0.09, height * 0.065, height * 0.085, skin(rng))


def bust(canvas: Canvas, x: float, y: float, scale: float) -> None:
    """Head and shoulders, seen from near; y is the chin."""
    rng = canvas.rng
    clothes = vivid(rng) if canvas.chance(0.55) else dull(rng, 15, 150)
    canvas.ellipse(x, y + scale * 1.1, scale * 1.05, scale * 0.95, clothes)
    canvas.rectangle(x - scale * 1.05, y + scale * 1.1, x + scale * 1.05, y + scale * 3, clothes)
    hair = dull(rng, 10, 120)
    canvas.ellipse(x, y - scale * 0.55, scale * 0.55, scale * 0.68, hair)
    if canvas.chance(0.7):  # else seen from behind
        canvas.ellipse(x, y - scale * 0.42, scale * 0.46, scale * 0.56, skin(rng))


def car(canvas: Canvas, x: float, ground: float, length: float) -> None:
    """A car, a van or a bus, from the side."""
    paint = vivid(canvas.rng)
    tall = canvas.uniform(0.28, 0.5)
    roof, waist = ground - length * tall, ground - length * tall * 0.5
    canvas.polygon(
        [(x + length * 0.12, roof), (x + length * 0.8, roof), (x + length * 0.97, waist), (x, waist)],
        shade(paint, 0.85),
    )
    canvas.rectangle(x + length * 0.2, roof + length * 0.03, x + length * 0.75, waist, (44, 54, 66))
    canvas.rectangle(x, waist, x + length, ground, paint)
    for wheel in (0.2, 0.8):
        canvas.ellipse(x + length * wheel, ground, length * 0.085, length * 0.085, (22, 22, 24))


def awning(canvas: Canvas, x0: float, x1: float, y: float, drop: float) -> None:
    """A shop's awning, plain or in at least five narrow stripes."""
    first = vivid(canvas.rng)
    second = vivid(canvas.rng) if canvas.chance(0.4) else (236, 234, 226)
    stripes = 1 if canvas.chance(0.3) else canvas.count(5, 9)
    step, flare = (x1 - x0) / stripes, drop * 0.3
    for index in range(stripes):
        left, right = x0 + index * step, x0 + (index + 1) * step
        canvas.polygon(
            [(left, y), (right, y), (right + flare, y + drop), (left + flare, y + drop)],
            first if index % 2 == 0 else second,
        )


def windows(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, columns: int, rows: int) -> None:
    """A grid of windows over a facade; at night some are lit."""
    glass = dull(canvas.rng, 30, 110)
    lamp = (255, 226, 150)
    lit_part = 0.45 if canvas.mood.lamps else 0.05
    lit = canvas.rng.random((rows, columns)) < lit_part
    step_x, step_y = (x1 - x0) / columns, (y1 - y0) / rows
    for row in range(rows):
        for column in range(columns):
            x, y = x0 + (column + 0.25) * step_x, y0 + (row + 0.2) * step_y
            canvas.rectangle(x, y, x + step_x * 0.5, y + step_y * 0.55, lamp if lit[row, column] else glass)


def board(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    """A sign, a placard or a screen: a coloured rectangle, with lines of writing or a smaller patch on it."""
    rng = canvas.rng
    canvas.rectangle(x, y, x + width, y + height, vivid(rng))
    ink = vivid(rng)
    if canvas.chance(0.6):
        for line in range(canvas.count(1, 3)):
            start = y + height * (0.2 + 0.25 * line)
            canvas.rectangle(
                x + width * 0.12, start, x + width * canvas.uniform(0.5, 0.88), start + height * 0.1, ink
            )
    else:
        canvas.rectangle(x + width * 0.6, y + height * 0.5, x + width * 0.9, y + height * 0.85, ink)


def greenery(canvas: Canvas, x: float, ground: float, height: float) -> None:
    """A bush or a tree in any season."""
    season = ((50, 96, 44), (84, 116, 48), (150, 100, 40), (96, 86, 74))[canvas.count(0, 3)]
    canvas.rectangle(x - height * 0.03, ground - height * 0.5, x + height * 0.03, ground, (70, 54, 40))
    for _ in range(canvas.count(4, 8)):
        leaf = shade(season, canvas.uniform(0.7, 1.3))
        dx, dy = canvas.uniform(-0.25, 0.25) * height, canvas.uniform(0.45, 0.9) * height
        canvas.ellipse(x + dx, ground - dy, height * 0.18, height * 0.15, leaf)
