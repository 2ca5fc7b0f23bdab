"""Pages for a person: one self-contained HTML file, no script, nothing fetched.

Everything foreign is escaped by the template engine; a content security policy in the page itself allows
nothing but its own style and `data:` pictures.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined

from worker.printable import one_line

TEXT_LIMIT = 320  # characters of a post that a card shows


@dataclass(frozen=True, slots=True)
class Badge:
    """A word with a colour."""

    text: str
    kind: Literal["right", "wrong", "missed", "quiet"] = "quiet"


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the header."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A match or a hit.

    Args:
        heading: which entity, or the post's id.
        score: 0 to 1, the length of the bar.
        score_text: the score as it is read.
        has_picture: whether a picture belongs here, even if there is no thumbnail of it.
        thumbnail: a JPEG.
        facts: names and values, below everything else.
    """

    heading: str
    text: str
    score: float
    score_text: str
    score_name: str
    meta: str
    explanation: str = ""
    has_picture: bool = True
    picture_id: str = ""
    thumbnail: bytes | None = None
    badge: Badge | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def bar_percent(self) -> int:
        return round(100 * min(max(self.score, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class LonePost:
    """A post without a partner; `text` is empty for a picture."""

    id: str
    text: str = ""
    thumbnail: bytes | None = None
    note: str = ""
    badge: Badge | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A refused post; `raw` is the beginning of its bytes."""

    reason: str
    detail: str
    raw: str
    where: str


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next."""

    text: str
    command: str


@dataclass(frozen=True, slots=True)
class DemoPage:
    """What became of a stream."""

    title: str
    lede: str
    tiles: tuple[Tile, ...]
    matches: tuple[Card, ...]
    lone_pictures: tuple[LonePost, ...]
    lone_texts: tuple[LonePost, ...]
    dead_letters: tuple[DeadLetterRow, ...]
    next_steps: tuple[Step, ...]
    footer: tuple[str, ...]
    matches_left_out: int = 0
    lone_left_out: int = 0
    dead_letters_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """Hits of one kind."""

    title: str
    hint: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class HitsPage:
    """The answer to a query.

    Args:
        picture: a JPEG of what was asked with.
        explanation: that it was asked with.
    """

    title: str
    lede: str
    sections: tuple[Section, ...]
    footer: tuple[str, ...]
    tiles: tuple[Tile, ...] = field(default=())
    picture: bytes | None = None
    explanation: str = ""


def render_demo(page: DemoPage) -> str:
    """The page of `entityclip demo`."""
    return _render("demo.html", page)


def render_hits(page: HitsPage) -> str:
    """The page of `entityclip query --format html`."""
    return _render("hits.html", page)


def write_page(path: Path, html: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        OSError: the folder is missing or not writable.
    """
    part = path.with_name(path.name + ".part")
    part.write_text(html, encoding="utf-8", errors="replace")
    part.replace(path)


def score_percent(score: float) -> str:
    """`93 %`; never `100 %` for what is not certain."""
    return f"{min(round(100 * score), 99 if score < 1 else 100)} %"


def post_text(text: str) -> str:
    """A post's text as a card shows it."""
    return one_line(text, TEXT_LIMIT)


def _render(template: str, page: DemoPage | HitsPage) -> str:
    return _environment().get_template(template).render(page=page, style=_style())


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment


def _read(name: str) -> str:
    return (resources.files("worker") / "templates" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _style() -> object:
    from markupsafe import Markup

    return Markup(_read("style.css"))  # ours, and the only thing that is not escaped


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
