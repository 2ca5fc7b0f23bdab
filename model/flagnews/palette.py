"""The colours of flags: a name for specifications, the words for explanations, and what is painted."""

from __future__ import annotations

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "white": (255, 255, 255),
    "black": (5, 5, 5),
    "grey": (150, 150, 150),
    "red": (208, 20, 40),
    "maroon": (140, 28, 58),
    "orange": (250, 125, 20),
    "yellow": (253, 210, 20),
    "gold": (205, 165, 60),
    "green": (0, 122, 60),
    "darkgreen": (0, 80, 45),
    "lightgreen": (50, 180, 60),
    "navy": (10, 35, 105),
    "blue": (0, 75, 170),
    "azure": (40, 140, 215),
    "sky": (115, 175, 222),
    "turquoise": (0, 165, 190),
    "brown": (115, 65, 30),
    "purple": (105, 45, 125),
    "pink": (240, 160, 180),
}

WORDS: dict[str, str] = {
    "maroon": "dark red",
    "gold": "golden",
    "darkgreen": "dark green",
    "lightgreen": "bright green",
    "navy": "dark blue",
    "azure": "light blue",
    "sky": "pale blue",
}


def colour_word(name: str) -> str:
    """How one says the colour, e.g. `dark blue` for `navy`."""
    return WORDS.get(name, name)
