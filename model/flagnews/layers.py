"""The parts of a parsed flag specification: small frozen records, in the order in which they are painted.

Points are (fraction of the width, fraction of the height) from the upper hoist; sizes are in flag heights;
colours are names of `palette.PALETTE`.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bands:
    """Parallel bands: axis `h` from the top, `v` from the hoist; one colour is a plain field."""

    axis: str
    colours: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Two halves along a diagonal; `direction` `up` rises from the hoist to the fly."""

    direction: str
    upper: str
    lower: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A bar or bars across the area: cross, nordic, saltire, pall, border, up, down; `width` in heights."""

    kind: str
    colour: str
    width: float


@dataclass(frozen=True, slots=True)
class Wedge:
    """A triangle or serrated area based on one side; `depth` in widths, `teeth` 0 for a plain triangle."""

    side: str
    colour: str
    depth: float
    teeth: int


@dataclass(frozen=True, slots=True)
class Rays:
    """Wedges: `fan` from the lower hoist with all colours, else `count` rays from the centre."""

    colours: tuple[str, ...]
    count: int
    fan: bool


@dataclass(frozen=True, slots=True)
class Emblem:
    """One drawn device; `size` is its full extent in heights, `turn` is clockwise degrees."""

    kind: str
    colours: tuple[str, ...]
    at: Point
    size: float
    turn: float


@dataclass(frozen=True, slots=True)
class Stars:
    """A group of equal stars; `extent` is the (width, height) of the group, in heights."""

    colour: str
    count: int
    arrangement: str
    at: Point
    size: float
    extent: Point


@dataclass(frozen=True, slots=True)
class Polygon:
    """A free polygon of one colour."""

    colour: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """The Union Jack over the whole area."""


@dataclass(frozen=True, slots=True)
class Canton:
    """A box at the upper hoist, `extent` in (widths, heights), with at most one layer inside."""

    colour: str
    extent: Point
    inner: Layer | None


Layer = Bands | Split | Stroke | Wedge | Rays | Emblem | Stars | Polygon | Union | Canton


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """A parsed specification; `aspect` is width / height, `text` the line it came from."""

    layers: tuple[Layer, ...]
    aspect: float
    text: str
