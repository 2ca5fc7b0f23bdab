"""Scenes with people close by: stadium, podium, crowd, interior. Each fills a canvas, from back to front."""

from __future__ import annotations

from model.flagnews.outdoors import house
from model.flagnews.scenery import Canvas, board, bust, dull, person, shade, vivid


def stadium(canvas: Canvas) -> None:
    edge = canvas.uniform(0.4, 0.65)
    canvas.sky(0.2)
    stand = dull(canvas.rng, 40, 120)
    canvas.gradient(canvas.uniform(0.0, 0.18), edge, stand, shade(stand, 0.7))
    supporters = [vivid(canvas.rng) for _ in range(5)]
    for _ in range(260):
        x, y = canvas.uniform(0, 1), canvas.uniform(0.15, edge - 0.05)
        shirt = supporters[canvas.count(0, 4)] if canvas.chance(0.5) else dull(canvas.rng, 30, 220)
        canvas.ellipse(x, y, 0.012, 0.014, shirt)
    for index in range(canvas.count(3, 7)):
        board(canvas, index * 0.17 + canvas.uniform(-0.03, 0.03), edge - 0.055, 0.15, 0.055)
    turf = ((56, 128, 52), (150, 70, 50), (70, 96, 140), (196, 176, 130))[
        canvas.count(0, 3) if canvas.chance(0.5) else 0
    ]
    stripes = canvas.count(4, 9)
    for index in range(stripes):
        low, high = edge + (1 - edge) * index / stripes, edge + (1 - edge) * (index + 1) / stripes
        canvas.rectangle(0, low, 1, high, shade(turf, 1.0 if index % 2 else 1.12))
    for _ in range(canvas.count(1, 3)):
        start = canvas.uniform(-0.2, 1.0)
        canvas.line((start, edge), (start + canvas.uniform(-0.5, 0.5), 1.0), 0.008, (230, 230, 226))
    for _ in range(canvas.count(2, 9)):
        depth = canvas.uniform(0.05, 0.95 - edge)
        person(canvas, canvas.uniform(0, 1), edge + depth, 0.1 + 0.5 * depth)


def podium(canvas: Canvas) -> None:
    curtain = shade(vivid(canvas.rng), 0.8) if canvas.chance(0.4) else dull(canvas.rng, 30, 210)
    canvas.gradient(0, 1, curtain, shade(curtain, 0.6))
    if canvas.chance(0.5):
        for fold in range(canvas.count(6, 14)):
            x = fold * 0.1 + canvas.uniform(-0.02, 0.02)
            canvas.rectangle(x, 0, x + 0.03, 1, shade(curtain, canvas.uniform(0.7, 0.95)))
    else:
        mark, step = vivid(canvas.rng), canvas.uniform(0.16, 0.3)
        for row in range(4):
            for column in range(6):
                canvas.rectangle(
                    column * step, row * step, column * step + step * 0.4, row * step + step * 0.14, mark
                )
    for _ in range(canvas.count(0, 2)):
        board(
            canvas,
            canvas.uniform(0, 0.7),
            canvas.uniform(0, 0.25),
            canvas.uniform(0.15, 0.4),
            canvas.uniform(0.1, 0.25),
        )
    for _ in range(canvas.count(1, 3)):
        bust(canvas, canvas.uniform(0.1, 0.9), canvas.uniform(0.38, 0.6), canvas.uniform(0.1, 0.2))
    desk, left, right = canvas.uniform(0.68, 0.88), canvas.uniform(-0.1, 0.35), canvas.uniform(0.6, 1.1)
    wood = (canvas.count(70, 160), canvas.count(50, 100), canvas.count(30, 70))
    canvas.polygon([(left, desk), (right, desk), (right - 0.04, 1), (left + 0.04, 1)], wood)
    if canvas.chance(0.6):
        board(canvas, left + (right - left) * 0.3, desk + 0.04, (right - left) * 0.4, 0.1)
    for _ in range(canvas.count(1, 4)):
        x = canvas.uniform(left, right)
        canvas.line((x, desk), (x + canvas.uniform(-0.04, 0.04), desk - 0.14), 0.008, (24, 24, 26))


def crowd(canvas: Canvas) -> None:
    horizon = canvas.uniform(0.1, 0.4)
    canvas.sky(horizon)
    for _ in range(canvas.count(1, 4)):
        house(canvas, canvas.uniform(-0.1, 0.8), horizon + 0.1)
    canvas.gradient(horizon + 0.08, 1.0, dull(canvas.rng, 60, 140), dull(canvas.rng, 40, 100))
    nearest = canvas.uniform(0.08, 0.15)
    rows = canvas.count(5, 8)
    for row in range(rows):
        depth = row / (rows - 1)
        scale = 0.02 + (nearest - 0.02) * depth
        y = horizon + 0.06 + (0.9 - horizon) * depth**1.3
        for _ in range(int(0.55 / scale)):
            bust(canvas, canvas.uniform(-0.05, 1.05), y + canvas.uniform(-0.5, 0.5) * scale, scale)
        if canvas.chance(0.45):
            _placard(canvas, canvas.uniform(0, 0.9), y - 2.5 * scale, 3 * scale)
        if canvas.chance(0.25):
            canvas.ellipse(canvas.uniform(0, 1), y - scale, 2 * scale, scale, vivid(canvas.rng))


def _placard(canvas: Canvas, x: float, y: float, width: float) -> None:
    canvas.line((x + width / 2, y), (x + width / 2, y + width * 1.3), 0.008, (120, 96, 70))
    board(canvas, x, y - width * 0.6, width, width * canvas.uniform(0.5, 0.9))


def interior(canvas: Canvas) -> None:
    floor = canvas.uniform(0.6, 0.85)
    wall = shade(vivid(canvas.rng), 0.85) if canvas.chance(0.25) else dull(canvas.rng, 90, 235)
    canvas.gradient(0, floor, shade(wall, 1.05), shade(wall, 0.85))
    canvas.gradient(floor, 1.0, dull(canvas.rng, 50, 150), dull(canvas.rng, 30, 110))
    if canvas.chance(0.6):
        x, width = canvas.uniform(0, 0.7), canvas.uniform(0.15, 0.35)
        canvas.rectangle(x, 0.08, x + width, floor - 0.15, (240, 240, 236))
        canvas.rectangle(x + 0.02, 0.1, x + width / 2 - 0.01, floor - 0.17, canvas.mood.sky_low)
        canvas.rectangle(x + width / 2 + 0.01, 0.1, x + width - 0.02, floor - 0.17, canvas.mood.sky_top)
    for _ in range(canvas.count(0, 4)):
        board(
            canvas,
            canvas.uniform(0, 0.8),
            canvas.uniform(0.05, 0.35),
            canvas.uniform(0.08, 0.22),
            canvas.uniform(0.08, 0.2),
        )
    if canvas.chance(0.5):
        _shelf(canvas, canvas.uniform(-0.1, 0.7), canvas.uniform(0.1, 0.4), canvas.uniform(0.2, 0.4), floor)
    for _ in range(canvas.count(1, 4)):
        x, width, top = (
            canvas.uniform(-0.1, 0.8),
            canvas.uniform(0.12, 0.35),
            canvas.uniform(floor - 0.15, floor + 0.05),
        )
        canvas.rectangle(
            x,
            top,
            x + width,
            top + canvas.uniform(0.1, 0.25),
            vivid(canvas.rng) if canvas.chance(0.6) else dull(canvas.rng),
        )
    for _ in range(canvas.count(0, 3)):
        person(canvas, canvas.uniform(0.05, 0.95), canvas.uniform(0.85, 1.05), canvas.uniform(0.35, 0.7))


def _shelf(canvas: Canvas, x: float, top: float, width: float, floor: float) -> None:
    canvas.rectangle(x, top, x + width, floor, (88, 64, 44))
    rows = canvas.count(3, 5)
    step = (floor - top) / rows
    for row in range(rows):
        spine = x + 0.01
        while spine < x + width - 0.02:
            thick = canvas.uniform(0.012, 0.03)
            canvas.rectangle(
                spine,
                top + step * (row + canvas.uniform(0.1, 0.35)),
                spine + thick * 0.85,
                top + step * (row + 0.92),
                vivid(canvas.rng),
            )
            spine += thick
