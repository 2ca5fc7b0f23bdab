"""Emblems as polygons: simplified devices that stay recognisable at a few pixels.

Every emblem is a tuple of parts, a part a colour index and a polygon in the square [-1, 1] x [-1, 1], y down.
An emblem given fewer colours than it has indices is drawn without the parts of the missing ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One polygon of an emblem, painted in the emblem's colour number `colour`."""

    colour: int
    points: Points


def star(points: int, inner: float, radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)) -> Points:
    """A star with one point up; `inner` is the radius of the notches over that of the tips."""
    steps = range(2 * points)
    radii = (radius if i % 2 == 0 else radius * inner for i in steps)
    angles = (math.pi * i / points for i in steps)
    return tuple(
        (centre[0] + r * math.sin(a), centre[1] - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)
    )


def ellipse(x: float, y: float, rx: float, ry: float, corners: int = 40) -> Points:
    """An upright ellipse."""
    angles = (2 * math.pi * i / corners for i in range(corners))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def crescent(opening: float = 0.8, shift: float = 0.25) -> Points:
    """A crescent open towards the fly: a disc less a disc of radius `opening` moved by `shift`."""
    # The two circles meet where x = (1 - opening^2 + shift^2) / (2 shift).
    x = (1 - opening**2 + shift**2) / (2 * shift)
    outer, inner = math.acos(x), math.acos((x - shift) / opening)
    far = [outer + (2 * math.pi - 2 * outer) * i / 40 for i in range(41)]
    near = [2 * math.pi - inner - (2 * math.pi - 2 * inner) * i / 40 for i in range(41)]
    arc = [(math.cos(a), math.sin(a)) for a in far]
    return tuple(arc + [(shift + opening * math.cos(a), opening * math.sin(a)) for a in near])


def mirrored(*half: tuple[float, float]) -> Points:
    """A shape symmetric about the vertical, from its right half listed top to bottom."""
    return tuple(half) + tuple((-x, y) for x, y in reversed(half))


def annulus(inner: float) -> Points:
    """A ring of outer radius 1 as one outline, closed along the seam at the fly side."""
    return (*ellipse(0, 0, 1, 1), (1.0, 0.0), (inner, 0.0), *reversed(ellipse(0, 0, inner, inner)))


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An upright rectangle."""
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def placed(points: Points, x: float, y: float, scale: float) -> Points:
    """The polygon shrunk by `scale` and moved to (x, y)."""
    return tuple((x + px * scale, y + py * scale) for px, py in points)


SHIELD = mirrored((0.8, -1), (0.8, 0.1), (0.6, 0.6), (0, 1))
EAGLE = mirrored(
    (0.1, -0.9), (0.2, -0.6), (0.15, -0.4), (0.6, -0.8), (1, -0.5), (0.95, 0.1), (0.7, 0.4), (0.35, 0.3),
    (0.25, 0.6), (0.4, 0.95), (0, 0.8),
)  # fmt: skip
TWO_HEADS = mirrored(
    (0.05, -0.5), (0.15, -0.95), (0.4, -0.9), (0.3, -0.6), (0.95, -0.75), (1, 0.3), (0.6, 0.1), (0.7, 0.5),
    (0.3, 0.4), (0.4, 0.8), (0, 1),
)  # fmt: skip
BIRD: Points = (
    (-1, -0.7), (-0.3, -0.25), (0.05, -0.1), (0.4, -0.8), (0.95, -0.95), (0.65, -0.2), (0.55, 0.1),
    (0.95, 0.3), (0.4, 0.35), (0, 0.6), (-0.5, 0.95), (-0.3, 0.35), (-0.7, 0.1),
)  # fmt: skip
MAPLE = mirrored(
    (0, -1), (0.2, -0.65), (0.4, -0.72), (0.3, -0.1), (0.55, -0.4), (0.65, -0.25), (1, -0.3), (0.88, 0.02),
    (1, 0.12), (0.45, 0.5), (0.5, 0.65), (0.06, 0.6), (0.06, 1),
)  # fmt: skip
CEDAR = mirrored(
    (0, -1), (0.35, -0.55), (0.15, -0.5), (0.6, -0.1), (0.25, -0.05), (0.85, 0.4), (0.3, 0.42), (1, 0.75),
    (0.12, 0.7), (0.12, 1),
)  # fmt: skip
ISLAND: Points = (
    (-0.95, -0.1), (-0.5, -0.35), (-0.1, -0.3), (0.3, -0.55), (1, -0.85), (0.5, -0.3), (0.65, 0),
    (0.2, 0.25), (-0.2, 0.5), (-0.7, 0.4),
)  # fmt: skip
BEAST: Points = (
    (-1, -0.6), (-0.6, -0.95), (-0.3, -0.5), (0.3, -0.35), (0.6, -0.9), (0.95, -0.8), (0.75, -0.1),
    (0.7, 0.9), (0.4, 0.9), (0.3, 0.25), (-0.2, 0.25), (-0.3, 0.9), (-0.6, 0.9), (-0.55, 0), (-0.9, -0.1),
)  # fmt: skip
DRAGON: Points = (
    (-1, -0.35), (-0.75, -0.6), (-0.5, -0.45), (-0.3, -0.2), (-0.15, -0.95), (0.35, -0.5), (0.3, -0.15),
    (0.7, -0.05), (0.8, -0.5), (1, -0.55), (0.9, 0.1), (0.6, 0.3), (0.65, 0.85), (0.4, 0.85), (0.35, 0.35),
    (-0.15, 0.35), (-0.2, 0.85), (-0.45, 0.85), (-0.4, 0.2), (-0.6, 0), (-0.75, -0.15),
)  # fmt: skip
CROWN = mirrored((0, -0.9), (0.2, -0.1), (0.55, -0.7), (0.6, 0), (1, -0.5), (0.8, 0.8))
LEAF: Points = ((0, -1), (0.5, -0.45), (0.55, 0.2), (0, 1), (-0.55, 0.2), (-0.5, -0.45))
TRIDENT = mirrored(
    (0, -1),
    (0.12, -0.75),
    (0.12, -0.1),
    (0.5, -0.1),
    (0.45, -0.85),
    (0.8, -0.55),
    (0.75, 0.15),
    (0.12, 0.2),
    (0.12, 1),
)
PLUS = mirrored((0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3), (0.3, 1))
BLADE: Points = ((-0.95, -0.85), (-0.75, -0.95), (0.95, 0.8), (0.8, 0.95))
SHIP: Points = (
    (-1, 0.3),
    (-0.1, 0.25),
    (-0.1, -0.95),
    (0.7, 0.1),
    (0, 0.15),
    (0, 0.25),
    (1, 0.3),
    (0.7, 0.85),
    (-0.7, 0.85),
)
TEMPLE = mirrored(
    (0, -1), (0.2, -0.35), (0.45, -0.35), (0.55, -0.65), (0.68, -0.3), (0.68, 0.35), (1, 0.4), (1, 0.75)
)
SCRIPT = (
    box(-1, -0.5, -0.75, 0.3), box(-0.65, -0.2, -0.2, 0.3), box(-0.1, -0.5, 0.05, 0.3),
    box(0.15, -0.1, 0.5, 0.3),
    box(0.6, -0.5, 0.75, 0.3), box(0.82, -0.2, 1, 0.3), box(-0.4, -0.5, -0.2, -0.35),
    box(0.25, -0.5, 0.45, -0.3),
)  # fmt: skip


def _parts(*polygons: Points, colour: int = 0) -> tuple[Part, ...]:
    return tuple(Part(colour, polygon) for polygon in polygons)


def _wreath() -> tuple[Part, ...]:
    angles = [math.radians(a) for a in (*range(-60, 91, 25), *range(115, 241, 25))]
    return _parts(*(ellipse(0.85 * math.cos(a), 0.85 * math.sin(a), 0.2, 0.2, 8) for a in angles))


def _checkers() -> tuple[Part, ...]:
    cells = [(column, row) for column in range(5) for row in range(5) if (column + row) % 2]
    squares = (box(-0.8 + 0.32 * c, -1 + 0.32 * r, -0.48 + 0.32 * c, -0.68 + 0.32 * r) for c, r in cells)
    return (*_parts(SHIELD), *_parts(*squares, colour=1))


def _wheel(spokes: int = 12) -> tuple[Part, ...]:
    angles = [2 * math.pi * i / spokes for i in range(spokes)]
    lines = (_spoke(a) for a in angles)
    return _parts(annulus(0.82), *lines, ellipse(0, 0, 0.2, 0.2, 12))


def _spoke(angle: float, half_width: float = 0.05, length: float = 0.9) -> Points:
    x, y = math.cos(angle), math.sin(angle)
    side = (-y * half_width, x * half_width)
    tip = (length * x, length * y)
    return (
        side,
        (tip[0] + side[0], tip[1] + side[1]),
        (tip[0] - side[0], tip[1] - side[1]),
        (-side[0], -side[1]),
    )


def _flower(petals: int = 5) -> tuple[Part, ...]:
    angles = [2 * math.pi * i / petals - math.pi / 2 for i in range(petals)]
    leaves = (ellipse(0.55 * math.cos(a), 0.55 * math.sin(a), 0.4, 0.4, 14) for a in angles)
    return (*_parts(*leaves), Part(1, ellipse(0, 0, 0.25, 0.25, 12)))


def _ornament() -> tuple[Part, ...]:
    rows = [-0.8, -0.4, 0.0, 0.4, 0.8]
    return tuple(Part(0, placed(((0, -1), (0.6, 0), (0, 1), (-0.6, 0)), 0, y, 0.2)) for y in rows)


def _taegeuk() -> tuple[Part, ...]:
    upper = tuple((math.cos(a), -math.sin(a)) for a in (math.pi * i / 20 for i in range(21)))
    return (
        Part(1, ellipse(0, 0, 1, 1)), Part(0, upper), Part(0, ellipse(-0.5, 0, 0.5, 0.5, 20)),
        Part(1, ellipse(0.5, 0, 0.5, 0.5, 20)),
    )  # fmt: skip


def _trigram() -> tuple[Part, ...]:
    return _parts(box(-1, -0.7, 1, -0.3), box(-1, -0.15, 1, 0.15), box(-1, 0.3, 1, 0.7))


def _palm() -> tuple[Part, ...]:
    fronds = (
        placed(ellipse(0, 0, 1, 0.3, 16), x, y, 0.55) for x, y in ((-0.5, -0.6), (0.5, -0.6), (0, -0.85))
    )
    return _parts(box(-0.12, -0.6, 0.12, 1), *fronds)


def _arms() -> tuple[Part, ...]:
    shield = placed(SHIELD, 0, 0.15, 0.6)
    supporters = (
        ellipse(-0.75, 0.2, 0.2, 0.65, 14),
        ellipse(0.75, 0.2, 0.2, 0.65, 14),
        box(-0.6, 0.8, 0.6, 1),
    )
    return (
        *_parts(*supporters, placed(CROWN, 0, -0.7, 0.35)),
        Part(1, shield),
        Part(2, placed(shield, 0, 0.05, 0.55)),
    )


EMBLEMS: dict[str, tuple[Part, ...]] = {
    "disc": _parts(ellipse(0, 0, 1, 1, 64)),
    "halfdisc": _parts(tuple(p for p in ellipse(0, 0, 1, 1, 64) if p[1] <= 0.001)),
    "oval": _parts(ellipse(0, 0, 0.7, 1)),
    "ring": _parts(annulus(0.75)),
    "star": _parts(star(5, 0.382)),
    "star4": _parts(star(4, 0.3)),
    "star6": _parts(star(6, 0.577)),
    "star7": _parts(star(7, 0.5)),
    "star12": _parts(star(12, 0.6)),
    "pentagram": _parts(star(5, 0.3)),
    "sun": (*_parts(star(16, 0.55)), Part(1, ellipse(0, 0, 0.5, 0.5, 24))),
    "halfsun": _parts(tuple(p for p in star(16, 0.65) if p[1] <= 0.001)),
    "crescent": _parts(crescent()),
    "crescent+star": _parts(crescent(), star(5, 0.382, 0.42, (0.55, 0.0))),
    "shield": (*_parts(SHIELD), Part(1, placed(SHIELD, 0, -0.1, 0.6))),
    "arms": _arms(),
    "checkers": _checkers(),
    "eagle": (*_parts(EAGLE), Part(1, placed(SHIELD, 0, 0.05, 0.3))),
    "two-headed-eagle": (*_parts(TWO_HEADS), Part(1, placed(SHIELD, 0, 0.0, 0.3))),
    "bird": _parts(BIRD),
    "lion": _parts(BEAST),
    "dragon": _parts(DRAGON),
    "maple": _parts(MAPLE),
    "leaf": _parts(LEAF),
    "tree": _parts(CEDAR),
    "palm": _palm(),
    "flower": _flower(),
    "wreath": _wreath(),
    "pinwheel": _parts(*(_spoke(math.radians(a), 0.16, 0.95) for a in (20, 140, 260))),
    "wheel": _wheel(),
    "gear": _parts(star(12, 0.8)),
    "map": _parts(ISLAND),
    "book": _parts(((-1, -0.5), (0, -0.3), (1, -0.5), (1, 0.5), (0, 0.7), (-1, 0.5))),
    "crown": _parts(CROWN),
    "trident": _parts(TRIDENT),
    "swords": _parts(BLADE, tuple((-x, y) for x, y in BLADE)),
    "sword": _parts(box(-1, -0.15, 1, 0.15), box(0.6, -0.5, 0.75, 0.5)),
    "spear": _parts(box(-0.06, -0.6, 0.06, 1), ((0, -1), (0.2, -0.55), (-0.2, -0.55))),
    "key": _parts(box(-0.1, -0.3, 0.1, 1), ellipse(0, -0.6, 0.35, 0.4, 16), box(0.1, 0.6, 0.5, 0.9)),
    "anchor": _parts(
        box(-0.1, -0.9, 0.1, 0.9), box(-0.5, -0.6, 0.5, -0.4), tuple((y, x) for x, y in crescent())
    ),
    "ship": _parts(SHIP),
    "temple": _parts(TEMPLE),
    "mountain": _parts(((-1, 0.8), (-0.4, -0.4), (-0.1, 0), (0.3, -0.9), (1, 0.8))),
    "hat": _parts(((-1, 0.5), (-0.3, 0.2), (0, -0.9), (0.3, 0.2), (1, 0.5), (0, 0.75))),
    "plus": _parts(PLUS),
    "diamond": _parts(((0, -1), (1, 0), (0, 1), (-1, 0))),
    "rhombus": _parts(((0, -0.62), (1, 0), (0, 0.62), (-1, 0))),
    "arrow": _parts(((0, -1), (0.87, 0.5), (-0.87, 0.5))),
    "inscription": _parts(*SCRIPT),
    "ornament": _ornament(),
    "taegeuk": _taegeuk(),
    "trigram": _trigram(),
}

EMBLEM_WORDS: dict[str, str] = {
    "star": "five-pointed star", "star4": "four-pointed star", "star6": "six-pointed star",
    "star7": "seven-pointed star", "star12": "many-pointed star", "pentagram": "thin five-pointed star",
    "sun": "sun with rays", "halfdisc": "half disc", "pinwheel": "three-legged wheel",
    "halfsun": "half sun with rays", "crescent+star": "crescent moon and star", "crescent": "crescent moon",
    "arms": "coat of arms", "checkers": "chequered shield", "two-headed-eagle": "two-headed eagle",
    "maple": "maple leaf", "palm": "palm tree", "map": "map outline", "swords": "pair of crossed swords",
    "ship": "sailing ship", "hat": "pointed hat", "plus": "short cross", "rhombus": "wide diamond",
    "arrow": "small triangle", "inscription": "line of writing", "ornament": "column of ornament",
    "taegeuk": "two-part swirling disc", "trigram": "group of short bars",
}  # fmt: skip


def emblem_words(kind: str) -> str:
    """How one says the emblem, e.g. `crescent moon and star`."""
    return EMBLEM_WORDS.get(kind, kind)
