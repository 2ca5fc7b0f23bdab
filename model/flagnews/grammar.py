"""A one-line language for flags, and its parser.

A specification is a list of layers, painted in order and separated by `|`; a `height:width` ratio may stand
anywhere (default 2:3):

    h blue white red 2:3                      bands, top to bottom (`*2` doubles a band: `h blue red*2 blue`)
    v green white orange                      bands, from the hoist (the side of the pole) to the fly
    stripes 13 red white                      alternating horizontal stripes
    field red | cross white nordic .2         one colour; a cross, its bar .2 heights wide
    split up green red                        two halves, the line rising from the hoist; the upper first
    diagonal up yellow .2   saltire white .2   border gold .1   pall green .2   (widths in flag heights)
    triangle green hoist .5   serrated white .3 5   (depths in flag widths; 5 teeth)
    rays yellow 8   fan blue yellow red        (rays from the centre; wedges spreading from the lower hoist)
    canton blue .4x.5 stars white 50 grid      a box at the upper hoist, and at most one layer inside it
    stars white 5 circle .5,.5 .1 .4x.4        count, arrangement, centre, star size, extent of the group
    crescent+star white .5,.5 .4               any emblem: colours (`red/blue`), centre, size, turn (degrees)
    poly red 0,0 .5,.5 0,1                     a free polygon
    union                                      the Union Jack, usually in a canton

Points are (fraction of the width, fraction of the height), from the upper hoist; sizes are in flag heights.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from model.flagnews.emblems import EMBLEMS
from model.flagnews.layers import (
    Bands,
    Canton,
    Emblem,
    FlagSpec,
    Layer,
    Point,
    Polygon,
    Rays,
    Split,
    Stars,
    Stroke,
    Union,
    Wedge,
)
from model.flagnews.palette import PALETTE


@dataclass(frozen=True, slots=True)
class _Arguments:
    """The words behind a layer's keyword, sorted by what they look like."""

    colours: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    words: tuple[str, ...]
    numbers: tuple[float, ...]
    points: tuple[Point, ...]
    extents: tuple[Point, ...]

    def number(self, index: int, default: float) -> float:
        """The number in that position, or the default."""
        return self.numbers[index] if index < len(self.numbers) else default

    def word(self, allowed: tuple[str, ...], default: str) -> str:
        """The only keyword given, which must be one of `allowed`."""
        word = self.words[0] if self.words else default
        if word not in allowed or len(self.words) > 1:
            raise ValueError(
                f"unknown word {' '.join(self.words)!r}; expected one of {', '.join(allowed) or 'none'}"
            )
        return word

    def one_colour(self) -> str:
        """The only colour given."""
        if len(self.colours) != 1 or len(self.colours[0]) != 1:
            raise ValueError("expected exactly one colour")
        return self.colours[0][0]

    def plain_colours(self, least: int, most: int) -> tuple[str, ...]:
        """All colours, between `least` and `most` of them, none of them a `red/yellow` pair."""
        if not least <= len(self.colours) <= most or any(len(group) != 1 for group in self.colours):
            raise ValueError(f"expected {least} to {most} colours")
        return tuple(group[0] for group in self.colours)


_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_RATIO = re.compile(r"(?<!\S)(\d+):(\d+)(?!\S)")
_POINT = re.compile(rf"({_NUMBER}),({_NUMBER})")
_EXTENT = re.compile(rf"({_NUMBER})x({_NUMBER})")
_WEIGHTED = re.compile(rf"([a-z]+)\*({_NUMBER})")


@lru_cache(maxsize=8192)
def parse(text: str) -> FlagSpec:
    """Parse one specification.

    Raises:
        ValueError: the line is not in the language; one line that quotes the layer at fault.
    """
    ratios = _RATIO.findall(text)
    if len(ratios) > 1 or any(int(part) == 0 for ratio in ratios for part in ratio):
        raise ValueError(f"flag {text!r}: at most one ratio of two positive numbers")
    height, width = (int(part) for part in ratios[0]) if ratios else (2, 3)
    layers = tuple(_parse_layer(part.split(), text) for part in _RATIO.sub(" ", text).split("|"))
    return FlagSpec(layers, width / height, text)


def _parse_layer(tokens: list[str], text: str) -> Layer:
    if not tokens:
        raise ValueError(f"flag {text!r}: an empty layer")
    keyword, rest = tokens[0], tokens[1:]
    try:
        if keyword == "canton":
            return _canton(rest, text)
        if keyword in EMBLEMS:
            return _emblem(keyword, _arguments(rest))
        if keyword not in _BUILDERS:
            raise ValueError("unknown layer")
        return _BUILDERS[keyword](keyword, _arguments(rest))
    except ValueError as error:
        if str(error).startswith("flag "):
            raise
        raise ValueError(f"flag {text!r}: layer {' '.join(tokens)!r}: {error}") from error


def _arguments(tokens: list[str]) -> _Arguments:
    colours: list[tuple[str, ...]] = []
    weights: list[float] = []
    words: list[str] = []
    numbers: list[float] = []
    points: list[Point] = []
    extents: list[Point] = []
    for token in tokens:
        if match := _POINT.fullmatch(token):
            points.append((float(match[1]), float(match[2])))
        elif match := _EXTENT.fullmatch(token):
            extents.append((float(match[1]), float(match[2])))
        elif re.fullmatch(_NUMBER, token):
            numbers.append(float(token))
        elif (match := _WEIGHTED.fullmatch(token)) and match[1] in PALETTE:
            colours.append((match[1],))
            weights.append(float(match[2]))
        elif all(part in PALETTE for part in token.split("/")):
            colours.append(tuple(token.split("/")))
            weights.append(1.0)
        else:
            words.append(token)
    if any(size <= 0 for size in weights) or any(min(extent) <= 0 for extent in extents):
        raise ValueError("weights and extents must be positive")
    return _Arguments(
        tuple(colours), tuple(weights), tuple(words), tuple(numbers), tuple(points), tuple(extents)
    )


def _canton(tokens: list[str], text: str) -> Canton:
    head = _arguments(tokens[:2])
    if len(head.extents) != 1:
        raise ValueError("expected `canton COLOUR WIDTHxHEIGHT [layer]`")
    inner = _parse_layer(tokens[2:], text) if tokens[2:] else None
    return Canton(head.one_colour(), head.extents[0], inner)


def _emblem(kind: str, given: _Arguments) -> Emblem:
    given.word((kind,), kind)
    if len(given.colours) != 1 or len(given.points) > 1 or given.number(0, 0.4) <= 0:
        raise ValueError("expected `EMBLEM COLOUR[/COLOUR] [X,Y] [SIZE] [TURN]`")
    return Emblem(
        kind, given.colours[0], (*given.points, (0.5, 0.5))[0], given.number(0, 0.4), given.number(1, 0.0)
    )


def _bands(keyword: str, given: _Arguments) -> Bands:
    given.word(("",), "")
    most = 1 if keyword == "field" else 24
    return Bands("v" if keyword == "v" else "h", given.plain_colours(1, most), given.weights)


def _stripes(_keyword: str, given: _Arguments) -> Bands:
    colours, count = given.plain_colours(2, 3), int(given.number(0, 0))
    if count < 2:
        raise ValueError("expected `stripes COUNT COLOUR COLOUR`")
    return Bands("h", tuple(colours[i % len(colours)] for i in range(count)), (1.0,) * count)


def _split(_keyword: str, given: _Arguments) -> Split:
    upper, lower = given.plain_colours(2, 2)
    return Split(given.word(("up", "down"), "up"), upper, lower)


def _stroke(keyword: str, given: _Arguments) -> Stroke:
    kinds = {"cross": ("centred", "nordic"), "diagonal": ("up", "down")}.get(keyword, ("",))
    word, width = given.word(kinds, kinds[0]), given.number(0, 0.2)
    if not 0 < width < 1:
        raise ValueError("the width must lie between 0 and 1")
    return Stroke(word if word in {"nordic", "up", "down"} else keyword, given.one_colour(), width)


def _wedge(keyword: str, given: _Arguments) -> Wedge:
    side = given.word(("hoist", "fly", "top", "bottom"), "hoist")
    teeth = int(given.number(1, 5)) if keyword == "serrated" else 0
    return Wedge(side, given.one_colour(), given.number(0, 0.4), teeth)


def _rays(keyword: str, given: _Arguments) -> Rays:
    if keyword == "fan":
        return Rays(given.plain_colours(2, 8), 0, fan=True)
    return Rays((given.one_colour(),), int(given.number(0, 8)), fan=False)


ARRANGEMENTS = ("circle", "grid", "row", "column", "arc", "rainbow", "southern", "diagonal", "triangle")


def _stars(_keyword: str, given: _Arguments) -> Stars:
    count = int(given.number(0, 0))
    if count < 1:
        raise ValueError("expected `stars COLOUR COUNT [ARRANGEMENT] [X,Y] [SIZE] [WxH]`")
    at, extent = (*given.points, (0.5, 0.5))[0], (*given.extents, (0.6, 0.6))[0]
    arrangement = given.word(ARRANGEMENTS, "circle")
    return Stars(given.one_colour(), count, arrangement, at, given.number(1, 0.12), extent)


def _polygon(_keyword: str, given: _Arguments) -> Polygon:
    if len(given.points) < 3:
        raise ValueError("expected at least three points")
    return Polygon(given.one_colour(), given.points)


def _union(_keyword: str, given: _Arguments) -> Union:
    if given.colours or given.words or given.numbers:
        raise ValueError("`union` takes nothing")
    return Union()


_BUILDERS: dict[str, Callable[[str, _Arguments], Layer]] = {
    "h": _bands, "v": _bands, "field": _bands, "stripes": _stripes, "split": _split,
    "cross": _stroke, "saltire": _stroke, "pall": _stroke, "border": _stroke, "diagonal": _stroke,
    "triangle": _wedge, "serrated": _wedge, "rays": _rays, "fan": _rays,
    "stars": _stars, "poly": _polygon, "union": _union,
}  # fmt: skip
