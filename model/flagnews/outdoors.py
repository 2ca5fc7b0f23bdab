"""Scenes under the open sky: street, harbour, skyline, field. Each fills a canvas, from back to front."""

from __future__ import annotations

from model.flagnews.scenery import (
    Canvas,
    Colour,
    awning,
    board,
    car,
    dull,
    greenery,
    person,
    shade,
    vivid,
    windows,
)


def street(canvas: Canvas) -> None:
    horizon = canvas.uniform(0.5, 0.72)
    canvas.sky(horizon)
    x = canvas.uniform(-0.15, 0.0)
    while x < 1.0:
        x = house(canvas, x, horizon)
    canvas.gradient(horizon, 1.0, dull(canvas.rng, 80, 150), dull(canvas.rng, 40, 110))
    vanishing = canvas.uniform(0.2, 0.8)
    canvas.polygon(
        [(vanishing, horizon), (canvas.uniform(-0.4, 0.3), 1), (canvas.uniform(0.7, 1.4), 1)],
        dull(canvas.rng, 40, 90),
    )
    for _ in range(canvas.count(0, 3)):
        greenery(canvas, canvas.uniform(0, 1), horizon + 0.03, canvas.uniform(0.15, 0.4))
    for _ in range(canvas.count(1, 4)):
        depth = canvas.uniform(0.02, 0.3)
        car(canvas, canvas.uniform(-0.1, 0.9), horizon + depth, 0.12 + depth)
    for _ in range(canvas.count(1, 7)):
        depth = canvas.uniform(0.03, 0.35)
        person(canvas, canvas.uniform(0, 1), horizon + depth, 0.12 + 0.7 * depth)


def house(canvas: Canvas, x: float, ground: float) -> float:
    """One facade with windows, and a shop with an awning or a sign; returns where the next one starts."""
    width, top = canvas.uniform(0.15, 0.4), canvas.uniform(-0.1, ground - 0.2)
    wall = vivid(canvas.rng) if canvas.chance(0.2) else dull(canvas.rng, 70, 220)
    canvas.rectangle(x, top, x + width, ground, wall)
    windows(canvas, x, top, x + width, ground - 0.12, canvas.count(2, 5), canvas.count(2, 6))
    if canvas.chance(0.6):
        canvas.rectangle(x + 0.02, ground - 0.1, x + width - 0.02, ground, dull(canvas.rng, 20, 80))
        awning(canvas, x + 0.01, x + width - 0.02, ground - 0.12, canvas.uniform(0.03, 0.06))
    if canvas.chance(0.45):
        board(
            canvas,
            x + width * 0.2,
            ground - canvas.uniform(0.16, 0.3),
            width * 0.5,
            canvas.uniform(0.04, 0.09),
        )
    return x + width


def harbour(canvas: Canvas) -> None:
    horizon = canvas.uniform(0.3, 0.55)
    canvas.sky(horizon)
    far = shade(canvas.mood.sky_low, 0.7)
    for _ in range(canvas.count(1, 5)):
        x = canvas.uniform(-0.2, 0.9)
        canvas.rectangle(
            x,
            horizon - canvas.uniform(0.02, 0.1),
            x + canvas.uniform(0.1, 0.4),
            horizon,
            shade(far, canvas.uniform(0.7, 1.2)),
        )
    _cranes(canvas, horizon)
    water = (canvas.count(20, 70), canvas.count(70, 120), canvas.count(90, 150))
    canvas.gradient(horizon, 1.0, shade(canvas.mood.sky_low, 0.75), water)
    for _ in range(60):
        y = canvas.uniform(horizon, 1.0)
        x, reach = canvas.uniform(0, 1), canvas.uniform(0.02, 0.12) * (0.3 + y)
        canvas.line((x, y), (x + reach, y), 0.004, shade(water, canvas.uniform(0.7, 1.6)))
    for depth in sorted(canvas.uniform(0.02, 0.4) for _ in range(canvas.count(2, 6))):
        _boat(canvas, canvas.uniform(0, 0.9), horizon + depth, 0.1 + 0.8 * depth)
    if canvas.chance(0.5):
        quay = canvas.uniform(0.82, 0.93)
        canvas.gradient(quay, 1.0, dull(canvas.rng), dull(canvas.rng, 40, 90))
        for _ in range(canvas.count(1, 5)):
            person(canvas, canvas.uniform(0, 1), quay + 0.06, canvas.uniform(0.15, 0.25))


def _cranes(canvas: Canvas, ground: float) -> None:
    """Stacked containers and a crane or two."""
    if canvas.chance(0.6):
        start, step = canvas.uniform(0, 0.7), canvas.uniform(0.05, 0.09)
        for column in range(canvas.count(2, 6)):
            for level in range(canvas.count(1, 4)):
                x, y = start + column * step, ground - (level + 1) * step * 0.45
                canvas.rectangle(x, y, x + step * 0.95, y + step * 0.4, vivid(canvas.rng))
    for _ in range(canvas.count(0, 2)):
        x, top, paint = canvas.uniform(0.05, 0.95), ground - canvas.uniform(0.15, 0.28), vivid(canvas.rng)
        canvas.line((x, ground), (x, top), 0.012, paint)
        canvas.line((x - 0.08, top + 0.01), (x + 0.18, top), 0.01, paint)


def _boat(canvas: Canvas, x: float, y: float, length: float) -> None:
    hull = vivid(canvas.rng)
    canvas.polygon(
        [
            (x, y),
            (x + length, y),
            (x + length * 0.85, y + length * 0.22),
            (x + length * 0.1, y + length * 0.22),
        ],
        hull,
    )
    canvas.rectangle(x + length * 0.3, y - length * 0.16, x + length * 0.65, y, dull(canvas.rng, 140, 250))
    mast = x + length * 0.5
    canvas.line((mast, y), (mast, y - length * 0.9), 0.006, (90, 80, 70))
    if canvas.chance(0.4):
        canvas.polygon(
            [(mast, y - length * 0.88), (mast + length * 0.42, y - length * 0.1), (mast, y - length * 0.1)],
            vivid(canvas.rng),
        )


def skyline(canvas: Canvas) -> None:
    horizon = canvas.uniform(0.6, 0.85)
    canvas.sky(horizon)
    if canvas.chance(0.4):
        canvas.ellipse(canvas.uniform(0.1, 0.9), canvas.uniform(0.05, 0.4), 0.045, 0.045, (255, 244, 214))
    if canvas.chance(0.5):
        peaks = [(step / 6, horizon - canvas.uniform(0.05, 0.25)) for step in range(7)]
        canvas.polygon([(0, horizon), *peaks, (1, horizon)], shade(canvas.mood.sky_low, 0.75))
    for layer in (0.6, 0.8, 1.0):
        haze = shade(canvas.mood.sky_low, 1.1 - 0.4 * layer)
        for _ in range(canvas.count(4, 9)):
            _tower(canvas, horizon, haze if layer < 1 else dull(canvas.rng, 40, 180), layer)
    lower = dull(canvas.rng, 50, 130) if canvas.chance(0.5) else shade(canvas.mood.sky_low, 0.6)
    canvas.gradient(horizon, 1.0, lower, shade(lower, 0.6))
    for _ in range(canvas.count(0, 6)):
        car(canvas, canvas.uniform(0, 0.95), canvas.uniform(horizon + 0.03, 1.0), canvas.uniform(0.05, 0.12))


def _tower(canvas: Canvas, ground: float, wall: Colour, layer: float) -> None:
    x, width, top = (
        canvas.uniform(-0.05, 1),
        canvas.uniform(0.05, 0.17),
        ground - canvas.uniform(0.12, 0.6) * (1.2 - 0.4 * layer),
    )
    canvas.rectangle(x, top, x + width, ground, wall)
    if layer == 1.0:
        windows(canvas, x, top, x + width, ground, canvas.count(2, 5), canvas.count(4, 10))
        if canvas.chance(0.35):
            board(canvas, x, top - 0.02, width, canvas.uniform(0.04, 0.08))


def field(canvas: Canvas) -> None:
    horizon = canvas.uniform(0.3, 0.6)
    canvas.sky(horizon)
    if canvas.chance(0.7):
        hills = [(step / 5, horizon - canvas.uniform(0.0, 0.14)) for step in range(6)]
        canvas.polygon([(0, horizon), *hills, (1, horizon)], dull(canvas.rng, 60, 140))
    soil = ((96, 140, 60), (190, 160, 70), (130, 94, 62), (70, 104, 56), (222, 226, 230))[canvas.count(0, 4)]
    canvas.gradient(horizon, 1.0, shade(soil, 1.15), shade(soil, 0.75))
    if canvas.chance(0.6):
        vanishing = canvas.uniform(0.1, 0.9)
        for row in range(-9, 11):
            canvas.line((vanishing, horizon), (vanishing + row * 0.28, 1.0), 0.012, shade(soil, 0.7))
    for _ in range(canvas.count(1, 7)):
        greenery(canvas, canvas.uniform(0, 1), horizon + canvas.uniform(0, 0.15), canvas.uniform(0.08, 0.3))
    for _ in range(canvas.count(0, 3)):
        x, y, width = canvas.uniform(0, 0.9), horizon + canvas.uniform(0.03, 0.3), canvas.uniform(0.08, 0.25)
        canvas.polygon(
            [(x, y), (x + width / 2, y - width * 0.6), (x + width, y)], vivid(canvas.rng)
        )  # a tent
    if canvas.chance(0.5):
        car(canvas, canvas.uniform(0, 0.8), canvas.uniform(horizon + 0.08, 0.95), canvas.uniform(0.1, 0.28))
    for _ in range(canvas.count(0, 4)):
        depth = canvas.uniform(0.05, 0.35)
        person(canvas, canvas.uniform(0, 1), horizon + depth, 0.1 + 0.6 * depth)
