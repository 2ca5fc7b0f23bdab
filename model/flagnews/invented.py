"""Invented flags and names: a seeded sampler whose habits are those of the real flags.

The weights are set so that layouts, colours and emblems come about as often as in `countries.COUNTRIES` (a
test compares the shares); what is rare there is a little more frequent here, so that every word is met in
training. What lies on or beside another colour stands out from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from model.flagnews.palette import PALETTE

COLOUR_WEIGHTS: dict[str, float] = {
    "red": 33, "white": 27, "yellow": 14, "green": 11, "navy": 10, "black": 7, "blue": 6, "azure": 4,
    "sky": 2.5, "orange": 2.5, "lightgreen": 3, "darkgreen": 2.5, "turquoise": 2, "gold": 1.5, "maroon": 1.5,
    "brown": 0.5, "purple": 0.5, "grey": 0.4, "pink": 0.3,
}  # fmt: skip
LAYOUT_WEIGHTS: dict[str, float] = {
    "h3": 26, "h2": 9, "h5": 7, "v3": 17, "v2": 4, "field": 26, "nordic": 4, "cross": 3, "saltire": 3,
    "diagonal": 4, "split": 3, "stripes": 4, "quarters": 2, "serrated": 1, "fan": 1, "pall": 2,
}  # fmt: skip
EMBLEM_WEIGHTS: dict[str, float] = {
    "star": 30, "disc": 14, "crescent+star": 6, "crescent": 5, "sun": 9, "shield": 8, "arms": 6, "eagle": 5,
    "bird": 5, "wreath": 5, "tree": 3, "palm": 3, "leaf": 2, "maple": 1.5, "flower": 2.5, "star6": 2,
    "star4": 2, "star7": 3, "star12": 3, "halfsun": 2, "wheel": 2, "gear": 1.5, "map": 2, "book": 1.5,
    "crown": 3, "trident": 2, "swords": 3, "key": 1.5, "anchor": 1.5, "ship": 3, "temple": 3, "mountain": 2,
    "hat": 1, "plus": 4, "diamond": 3, "rhombus": 2, "ring": 2, "lion": 3, "dragon": 1.5, "inscription": 2,
    "checkers": 1.5, "spear": 1.5, "two-headed-eagle": 1.5, "halfdisc": 1.5,
}  # fmt: skip
TWO_COLOURED = ("shield", "arms", "eagle", "sun", "flower", "checkers")
RATIOS = ("2:3",) * 9 + ("1:2",) * 6 + ("3:5",) * 3 + ("5:8", "7:10", "3:4", "4:5", "10:19")
STAND_OUT = 130.0  # least RGB distance of two colours that touch

PREFIXES = ("",) * 40 + ("New ", "Saint ", "North ", "South ", "Upper ", "Grand ", "Lower ", "Republic of ")
SUFFIXES = ("",) * 24 + (" Islands", " Islands", " Coast", " Republic", " Territory")
ONSETS = (
    "b", "br", "d", "dr", "f", "g", "gl", "h", "j", "k", "kr", "l", "m", "n", "p", "pr", "qu", "r", "s",
    "sh", "st", "t", "th", "tr", "v", "w", "y", "z",
)  # fmt: skip
VOWELS = ("a", "a", "e", "e", "i", "i", "o", "o", "u", "ai", "ei", "ou")
CODAS = ("", "", "", "", "", "n", "n", "r", "r", "l", "s", "m")
ENDINGS = (
    "ia", "a", "land", "stan", "or", "esh", "u", "o", "ar", "en", "is", "ova", "ine", "ador", "uay", "ique",
)  # fmt: skip


class FlagSampler:
    """Draws specifications, one line each, from a seeded generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def specification(self) -> str:
        """A random flag in the language of `grammar`; not necessarily a new one."""
        layout = self._weighted(LAYOUT_WEIGHTS)
        layers, grounds = self._layout(layout)
        rng = self._rng
        ground = grounds[len(grounds) // 2]
        if layout in {"h3", "h2", "h5", "stripes"} and rng.random() < 0.3:
            side = self._colour(grounds)
            layers.append(f"triangle {side} hoist {self._between(0.25, 0.5)}")
            if rng.random() < 0.5:
                layers.append(self._emblem([side], 0.15, 0.5, 0.25, 0.36))
        elif layout in {"field", "stripes", "h2", "h3"} and rng.random() < 0.25:
            layers.append(self._canton(grounds))
        elif layout not in {"stripes", "fan", "quarters"} and rng.random() < 0.8:
            layers.append(
                self._charge([ground] if layout in {"v3", "h5"} else grounds, centred=layout in {"v3", "h5"})
            )
        if layout == "field" and rng.random() < 0.12:
            layers.append(f"border {self._colour([ground])} {self._between(0.06, 0.12)}")
        if layout == "field" and len(layers) == 1:
            layers.append(self._charge(grounds))
        return f"{' | '.join(layers)} {rng.choice(RATIOS)}"

    def _layout(self, layout: str) -> tuple[list[str], list[str]]:
        """Base layers, and the colours of the ground from top to bottom (or hoist to fly)."""
        pick = self._beside
        if layout in {"h2", "h3", "v2", "v3"}:
            colours = pick(int(layout[1]))
            return [f"{layout[0]} {self._weights(colours)}"], colours
        if layout == "h5":
            outer, line, middle = pick(3)
            inside = outer if self._rng.random() < 0.4 else middle
            wide = self._rng.choice(("", "*3", "*6"))
            last = outer if self._rng.random() < 0.6 else middle
            core = inside if inside != last else middle if last == outer else outer
            return [f"h {outer}{wide} {line} {core}{wide} {line} {last}{wide}"], [outer, core, last]
        first, second, third = pick(3)
        width = self._between(0.1, 0.3)
        bases: dict[str, list[str]] = {
            "field": [f"field {first}"],
            "cross": [f"field {first}", f"cross {second} {width}"],
            "nordic": [f"field {first}", f"cross {second} nordic {width}"],
            "saltire": [f"field {first}", f"saltire {second} {width}"],
            "pall": [f"h {first} {third}", f"pall {second} {width}"],
            "split": [f"split {self._slant()} {first} {second}"],
            "stripes": [f"stripes {self._rng.choice((5, 7, 9, 11, 13))} {first} {second}"],
            "quarters": [
                f"field {first}",
                f"poly {second} .5,0 1,0 1,.5 .5,.5",
                f"poly {second} 0,.5 .5,.5 .5,1 0,1",
            ],
            "serrated": [
                f"field {first}",
                f"serrated {second} {self._between(0.25, 0.42)} {self._rng.integers(4, 10)}",
            ],
            "fan": [f"fan {first} {second} {third} {self._colour([third])}"],
            "diagonal": self._diagonal(first, second, third),
        }
        grounds = {
            "cross": [second],
            "nordic": [second],
            "saltire": [second],
            "diagonal": [second],
            "split": [first, second],
        }
        layers = bases[layout]
        if layout in {"cross", "nordic"} and self._rng.random() < 0.5:
            inner = self._colour([second])
            layers.append(f"cross {inner}{' nordic' if layout == 'nordic' else ''} {width / 2:.3f}")
            return layers, [inner]
        return layers, grounds.get(layout, [first])

    def _diagonal(self, first: str, second: str, third: str) -> list[str]:
        slant, width = self._slant(), self._between(0.2, 0.45)
        lower = first if self._rng.random() < 0.4 else third
        base = f"field {first}" if lower == first else f"split {slant} {first} {lower}"
        edge = self._colour([second, first, lower])
        fimbriated = [f"diagonal {slant} {edge} {width * 1.35:.3f}"] if self._rng.random() < 0.5 else []
        return [base, *fimbriated, f"diagonal {slant} {second} {width}"]

    def _charge(self, ground: Sequence[str], centred: bool = False) -> str:
        """One thing on the ground: an emblem in the centre or towards a side, or a group of stars."""
        rng = self._rng
        if rng.random() < 0.18:
            count, arrangement = int(rng.integers(3, 13)), rng.choice(("circle", "row", "grid", "rainbow"))
            return (
                f"stars {self._colour(ground)} {count} {arrangement} .5,.5 {self._between(0.1, 0.16)} .7x.6"
            )
        x, y = ((0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.3, 0.5), (0.22, 0.27))[
            int(rng.integers(3 if centred else 5))
        ]
        return self._emblem(ground, x, y, 0.3, 0.42 if x < 0.3 else 0.75)

    def _emblem(self, ground: Sequence[str], x: float, y: float, least: float, most: float) -> str:
        kind = self._weighted(EMBLEM_WEIGHTS)
        colour = self._colour(ground)
        second = f"/{self._colour([colour])}" if kind in TWO_COLOURED else ""
        return f"{kind} {colour}{second} {x},{y} {self._between(least, most)}"

    def _canton(self, grounds: Sequence[str]) -> str:
        colour = self._colour(grounds)
        rng = self._rng
        inside = self._emblem([colour], 0.5, 0.5, 0.5, 0.75)
        if rng.random() < 0.4:
            count = int(rng.integers(4, 31))
            inside = (
                f"stars {self._colour([colour])} {count} {rng.choice(('grid', 'circle'))} .5,.5 .14 1.1x.8"
            )
        elif rng.random() < 0.25:
            inside = f"cross {self._colour([colour])} .2"
        return f"canton {colour} {self._between(0.33, 0.45)}x{rng.choice((0.5, 0.54, 0.6, 0.33))} {inside}"

    def _beside(self, count: int) -> list[str]:
        """Colours of neighbouring areas, sometimes with the first again at the end."""
        colours = [self._colour([])]
        while len(colours) < count:
            colours.append(
                self._colour(colours[-1:] if len(colours) > 1 and self._rng.random() < 0.15 else colours)
            )
        return colours

    def _weights(self, colours: Sequence[str]) -> str:
        wide = int(self._rng.integers(len(colours))) if self._rng.random() < 0.2 else -1
        return " ".join(f"{colour}*2" if i == wide else colour for i, colour in enumerate(colours))

    def _colour(self, unlike: Sequence[str]) -> str:
        """A colour by real frequency that stands out from all of `unlike`."""
        taken = [np.array(PALETTE[name], dtype=float) for name in unlike]

        def stands_out(name: str, least: float) -> bool:
            return all(float(np.linalg.norm(np.array(PALETTE[name]) - other)) >= least for other in taken)

        allowed = {k: w for k, w in COLOUR_WEIGHTS.items() if stands_out(k, STAND_OUT)}
        return self._weighted(
            allowed or {k: w for k, w in COLOUR_WEIGHTS.items() if stands_out(k, 60.0)} or {"grey": 1.0}
        )

    def _weighted(self, weights: dict[str, float]) -> str:
        shares = np.array(list(weights.values()))
        return list(weights)[int(self._rng.choice(len(shares), p=shares / shares.sum()))]

    def _between(self, least: float, most: float) -> float:
        return round(float(self._rng.uniform(least, most)), 3)

    def _slant(self) -> str:
        return "up" if self._rng.random() < 0.6 else "down"


def invented_names(rng: np.random.Generator, forbidden: frozenset[str]) -> Iterator[str]:
    """Endless pronounceable names of one to three words; no root occurs twice or is in `forbidden`."""
    used = set(forbidden)
    while True:
        root = _root(rng)
        if root in used:
            continue
        used.add(root)
        prefix, suffix = str(rng.choice(PREFIXES)), str(rng.choice(SUFFIXES))
        name = root.capitalize()
        yield f"{prefix}{name}" if prefix else f"{name}{suffix}"


def _root(rng: np.random.Generator) -> str:
    syllables = int(rng.integers(1, 3))
    body = "".join(
        str(rng.choice(ONSETS)) + str(rng.choice(VOWELS)) + str(rng.choice(CODAS)) for _ in range(syllables)
    )
    ending = str(rng.choice(ENDINGS))
    joint = str(rng.choice(ONSETS)) if body[-1] in "aeiou" else ""
    return f"{body}{joint}{ending}"
