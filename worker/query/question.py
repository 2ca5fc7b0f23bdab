"""What is asked of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from worker.store.points import Where

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")
MOST_HITS = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """A question: a text, a picture, or both.

    Args:
        image: a picture's file, or its http(s) address.
        explanation: how what the text names looks; empty for none given.
        top: hits of each kind, at most.
        kinds: of the points that are looked for.
        since, until: only posts published then, both ends included; posts without a date are left out then.
        sources, langs, entities: only posts with one of these.

    Raises:
        ValueError: neither text nor picture, or a condition that cannot be met.
    """

    text: str = ""
    image: str | None = None
    explanation: str = ""
    top: int = 10
    kinds: tuple[Kind, ...] = KINDS
    since: datetime | None = None
    until: datetime | None = None
    sources: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.asks:
            raise ValueError("ask with a text, with --image FILE|URL, or with both")
        if self.explanation.strip() and "text" not in self.asks:
            raise ValueError("--explanation says how what a text names looks: give the text too")
        if not 1 <= self.top <= MOST_HITS:
            raise ValueError(f"--top must lie in 1 to {MOST_HITS}, got {self.top}")
        if self.since is not None and self.until is not None and self.until < self.since:
            raise ValueError(
                f"--until {self.until:%Y-%m-%d %H:%M} lies before --since {self.since:%Y-%m-%d %H:%M}"
            )
        for option, values in self.choices.items():
            if not all(value.strip() for value in values):
                raise ValueError(f"--{option} is empty")

    @property
    def asks(self) -> tuple[Kind, ...]:
        """What it is asked with."""
        given: list[Kind] = []
        if self.image is not None:
            given.append("image")
        if self.text.strip():
            given.append("text")
        return tuple(given)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The conditions that name values of the posts, by option."""
        return {"source": self.sources, "lang": self.langs, "entity": self.entities}

    def where(self) -> Where:
        """The conditions as the store takes them, but for the kind."""
        return Where(
            published_from=self.since,
            published_to=self.until,
            sources=self.sources,
            langs=self.langs,
            entities=self.entities,
        )
