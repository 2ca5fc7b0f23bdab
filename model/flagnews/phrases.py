"""Flags in words: what each layer of a specification looks like, in several styles of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.flagnews.emblems import emblem_words
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
from model.flagnews.palette import colour_word

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen",
)  # fmt: skip

# Emblems whose first two colours are both named.
TWO_TONED = frozenset({"shield", "arms", "checkers", "taegeuk", "eagle", "two-headed-eagle"})


@dataclass(frozen=True, slots=True)
class Style:
    """One way of speaking. `{n}` is a number word, `{c}` colours; places are words for sides and middle."""

    across: str
    upright: str
    field: str
    split: str
    stripe: str
    left: str
    right: str
    top: str
    bottom: str
    middle: str
    corner: str


TRAIN_STYLES = (
    Style(
        "{n} horizontal bands, {c} from the top", "{n} vertical bands, {c} from the hoist", "a {c} field",
        "a diagonal division, {a} above and {b} below", "band", "at the hoist", "towards the fly",
        "at the top", "at the bottom", "in the centre", "in the {v} {h} corner",
    ),
    Style(
        "{c} stripes running across, top to bottom", "{c} stripes standing upright, left to right",
        "a plain {c} background", "two triangular halves, {a} over {b}", "stripe", "on the left",
        "on the right", "along the top", "along the bottom", "in the middle", "in the {v} {h} corner",
    ),
    Style(
        "{n} level stripes of {c}", "{n} upright stripes of {c}", "all {c} cloth",
        "cloth cut corner to corner into {a} and {b}", "stripe", "next to the pole", "at the far end",
        "near the top", "near the bottom", "at the centre", "in the {v} corner on the {h}",
    ),
)  # fmt: skip
TEST_STYLES = (
    Style(
        "horizontal stripes in {c}, from top to bottom", "vertical stripes in {c}, from left to right",
        "a background all in {c}", "a diagonal cut between {a} at the top and {b} at the bottom", "bar",
        "on the hoist side", "on the far side", "towards the top", "towards the bottom",
        "right in the middle", "at the {v} {h}",
    ),
    Style(
        "{n} bands lying across, {c} downwards", "{n} upright bands, {c} outwards from the pole",
        "one field of {c}", "a field split diagonally, {a} above, {b} below", "band", "by the pole",
        "by the free edge", "up at the top", "down at the bottom", "at its centre", "at the {v} {h}",
    ),
)  # fmt: skip


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def with_article(phrase: str) -> str:
    """The phrase behind `a` or `an`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def number_word(count: int) -> str:
    """`five` for 5; `many` beyond fifteen."""
    return NUMBERS[count] if count < len(NUMBERS) else "many"


def plural(noun: str) -> str:
    """`star` -> `stars`, `cross` -> `crosses`, `disc of x` stays out of use."""
    for head in (" with ", " of "):
        if head in noun:
            first, rest = noun.split(head, 1)
            return f"{plural(first)}{head}{rest}"
    if noun.endswith("leaf"):
        return f"{noun[:-1]}ves"
    return f"{noun}es" if noun.endswith(("s", "x", "ch")) else f"{noun}s"


def base_phrase(flag: FlagSpec, style: Style) -> str:
    """What the first layer looks like, with its article where it needs one."""
    layer = flag.layers[0]
    match layer:
        case Bands(axis=axis, colours=colours):
            if len(colours) == 1:
                return style.field.format(c=colour_word(colours[0]))
            if len(colours) > 5:
                return _alternating(colours, style)
            template = style.across if axis == "h" else style.upright
            return template.format(n=number_word(len(colours)), c=joined(_band_words(layer)))
        case Split(upper=upper, lower=lower):
            return style.split.format(a=colour_word(upper), b=colour_word(lower))
        case Rays(colours=colours):
            return (
                f"rays of {joined([colour_word(c) for c in colours])} spreading from the lower hoist corner"
            )
        case _:
            return joined(_listed([layer], style))


def detail_phrases(flag: FlagSpec, style: Style, *, placed: bool = True) -> tuple[str, ...]:
    """What lies upon the first layer, in the order of painting; equal things are counted, not repeated.

    Not `placed` says what there is without where it is, which is shorter.
    """
    return tuple(_listed(flag.layers[1:], style, placed=placed))


def _band_words(bands: Bands) -> list[str]:
    usual = sorted(bands.weights)[(len(bands.weights) - 1) // 2]
    return [
        _width_word(w / usual) + colour_word(c) for c, w in zip(bands.colours, bands.weights, strict=True)
    ]


def _width_word(ratio: float) -> str:
    return "wide " if ratio >= 1.6 else "thin " if ratio <= 0.5 else ""


def _alternating(colours: Sequence[str], style: Style) -> str:
    kinds = list(dict.fromkeys(colours))
    words = joined([colour_word(c) for c in kinds])
    return f"{number_word(len(colours))} {style.stripe}s across in turn {words}"


def _listed(layers: Sequence[Layer], style: Style, *, placed: bool = True) -> list[str]:
    nouns: dict[str, int] = {}
    places: dict[str, str] = {}
    for layer, edges in _edged(layers):
        noun, count, place = _noun(layer, style)
        noun += f" edged in {joined([colour_word(c) for c in edges])}" if edges else ""
        nouns[noun] = nouns.get(noun, 0) + count
        places[noun] = place if placed and nouns[noun] == count else ""
    return [
        f"{with_article(noun) if count == 1 else f'{number_word(count)} {plural(noun)}'}{places[noun]}"
        for noun, count in nouns.items()
    ]


def _edged(layers: Sequence[Layer]) -> list[tuple[Layer, tuple[str, ...]]]:
    """Bars and triangles upon wider ones of their kind, as (the narrowest, colours of the wider ones)."""
    result: list[tuple[Layer, tuple[str, ...]]] = []
    for layer in layers:
        edges: tuple[str, ...] = ()
        if isinstance(layer, Stroke | Wedge):
            under = next((i for i, (other, _) in enumerate(result) if _same_form(other, layer)), None)
            if under is not None:
                wider, outer = result.pop(under)
                edges = (wider.colour, *outer) if isinstance(wider, Stroke | Wedge) else ()
        result.append((layer, edges))
    return result


def _same_form(one: Layer, other: Layer) -> bool:
    if isinstance(one, Stroke) and isinstance(other, Stroke):
        return one.kind == other.kind
    return (
        isinstance(one, Wedge)
        and isinstance(other, Wedge)
        and (one.side, one.teeth) == (other.side, other.teeth)
    )


def _noun(layer: Layer, style: Style) -> tuple[str, int, str]:
    """(noun phrase without article, how many, place with a leading blank or nothing)."""
    match layer:
        case Emblem():
            return _emblem_noun(layer), 1, " " + place_words(layer.at, style)
        case Stars(colour=colour, count=count, arrangement=arrangement, at=at):
            form = {"circle": "in a ring", "row": "in a row", "arc": "in an arc", "rainbow": "in an arc"}.get(
                arrangement, ""
            )
            place = f"{form} {place_words(at, style)}".strip()
            return f"{colour_word(colour)} star", count, f" {place}"
        case Polygon(colour=colour, points=points):
            return _polygon_noun(colour, points, style)
        case Canton(colour=colour, inner=inner):
            holding = "" if inner is None else f" with {_unplaced(inner, style)}"
            return f"{colour_word(colour)} box{holding}", 1, " at the upper hoist"
        case Stroke(kind=kind, colour=colour):
            return f"{colour_word(colour)} {_STROKES[kind]}", 1, ""
        case Wedge(colour=colour, side=side, teeth=teeth):
            edge = "zigzag edge" if teeth else "triangle"
            where = {"hoist": style.left, "fly": style.right, "top": style.top, "bottom": style.bottom}[side]
            return f"{colour_word(colour)} {edge}", 1, f" {where}"
        case Rays(colours=colours):
            return f"{joined([colour_word(c) for c in colours])} ray", 8, ""
        case Union():
            return "red and white upright and diagonal cross on dark blue", 1, ""
        case Bands(colours=colours):
            return f"{joined([colour_word(c) for c in colours])} field", 1, ""
        case Split(upper=upper, lower=lower):
            return f"{colour_word(upper)} and {colour_word(lower)} diagonal", 1, ""


def _unplaced(layer: Layer, style: Style) -> str:
    if isinstance(layer, Union):
        return "red and white crosses"
    noun, count, _ = _noun(layer, style)
    return with_article(noun) if count == 1 else f"{number_word(count)} {plural(noun)}"


_STROKES = {
    "cross": "upright cross", "nordic": "Nordic cross", "saltire": "diagonal cross", "pall": "sideways Y",
    "border": "border", "up": "diagonal band rising from the lower hoist",
    "down": "diagonal band falling from the upper hoist",
}  # fmt: skip


def _emblem_noun(layer: Emblem) -> str:
    colours = [colour_word(c) for c in layer.colours[: 2 if layer.kind in TWO_TONED else 1]]
    size = "large " if layer.size >= 0.6 else "small " if layer.size <= 0.2 else ""
    return f"{size}{joined(colours)} {emblem_words(layer.kind)}"


def _polygon_noun(colour: str, points: Sequence[Point], style: Style) -> tuple[str, int, str]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    at = (sum(xs) / len(xs), sum(ys) / len(ys))
    upright_box = len(points) == 4 and len(set(xs)) == 2 and len(set(ys)) == 2
    word = colour_word(colour)
    if upright_box and width >= 0.95:
        return f"{word} line across", 1, ""
    if upright_box and height >= 0.95:
        return f"{word} upright {style.stripe}", 1, " " + place_words(at, style)
    return f"{word} {_outline(points, upright_box)}", 1, " " + place_words(at, style)


def _outline(points: Sequence[Point], upright_box: bool) -> str:
    if upright_box:
        return "block"
    if len(points) == 3:
        return "wedge"
    if len(points) > 4:
        return "pointed shape"
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    parallel = abs((bx - ax) - (cx - dx)) < 0.02 and abs((by - ay) - (cy - dy)) < 0.02
    return "slanting band" if parallel else "four-sided block"


def place_words(at: Point, style: Style) -> str:
    """Where a point (fractions of width and height) lies on the flag."""
    x, y = at
    column = "left" if x < 0.4 else "right" if x > 0.6 else ""
    row = "upper" if y < 0.38 else "lower" if y > 0.62 else ""
    if column and row:
        return style.corner.format(v=row, h=column)
    if column:
        return style.left if column == "left" else style.right
    if row:
        return style.top if row == "upper" else style.bottom
    return style.middle
