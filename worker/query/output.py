"""The answer to a query as a table, as JSON, or as a page of cards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from worker.errors import TransientError
from worker.media import MediaStore
from worker.page import Card, HitsPage, Section, Tile, post_text, render_hits, score_percent
from worker.printable import one_line
from worker.query.search import Answer, Found, Query
from worker.tables import Column, print_heading, print_table

_COLUMNS = (
    Column("score", "right"),
    Column("cosine", "right"),
    Column("post"),
    Column("published"),
    Column("entities"),
    Column("text or picture", wide=True),
)


def question(query: Query) -> str:
    """The query in words."""
    return f"the picture {query.image.name}" if query.image is not None else one_line(query.text, 120)


def print_answer(query: Query, answer: Answer, *, file: TextIO | None = None) -> None:
    """Print a table of pictures and a table of texts; one line where there is nothing."""
    if not answer.found:
        print(f"nothing found for {question(query)} among {answer.points} points", file=file)
        return
    for title, found in (("Pictures", answer.images), ("Texts", answer.texts)):
        if found:
            print_heading(title, file=file)
            print_table(_COLUMNS, [_row(hit) for hit in found], file=file)


def answer_json(query: Query, answer: Answer) -> str:
    """The query, the model and all that was found; scores are null where no calibration exists."""
    asked: dict[str, object] = {
        "text": query.text or None,
        "image": None if query.image is None else str(query.image),
        "top": query.top,
        "since": None if query.since is None else query.since.isoformat(),
        "sources": list(query.sources),
    }
    found = {
        "images": [asdict(hit) for hit in answer.images],
        "texts": [asdict(hit) for hit in answer.texts],
    }
    document = {"query": asked, "model_id": answer.model_id, "points": answer.points, **found}
    return json.dumps(document, indent=2, ensure_ascii=False)


def answer_html(query: Query, answer: Answer, media: MediaStore | None) -> str:
    """One self-contained page.

    Args:
        media: where thumbnails are; None where none are kept.
    """
    calibrated = "The score is the calibrated probability that it is about the same entity."
    alike = "Compared by likeness alone (cosine); no probability can be given."
    return render_hits(
        HitsPage(
            title=f"“{question(query)}”" if query.image is None else question(query).capitalize(),
            lede=_lede(query),
            tiles=(
                Tile("Pictures found", str(len(answer.images))),
                Tile("Texts found", str(len(answer.texts))),
                Tile("Points in the store", f"{answer.points:,}"),
            ),
            sections=(
                Section(
                    "Pictures", calibrated if query.asks == "text" else alike, _cards(answer.images, media)
                ),
                Section("Texts", calibrated if query.asks == "image" else alike, _cards(answer.texts, media)),
            ),
            footer=(f"Model {answer.model_id}",),
        )
    )


def _lede(query: Query) -> str:
    conditions = [f"the best {query.top} of each kind"]
    if query.since is not None:
        conditions.append(f"published since {query.since:%Y-%m-%d %H:%M} UTC")
    if query.sources:
        conditions.append(f"from {', '.join(one_line(source, 60) for source in query.sources)}")
    return f"What the store holds: {', '.join(conditions)}."


def _row(hit: Found) -> Sequence[str]:
    return (
        "" if hit.score is None else score_percent(hit.score),
        f"{hit.cosine:.3f}",
        one_line(hit.post_id, 28),
        hit.published_at[:16].replace("T", " "),
        one_line(", ".join(hit.entities), 28),
        hit.text if hit.kind == "text" else f"picture {hit.image_id}",
    )


def _cards(found: Sequence[Found], media: MediaStore | None) -> tuple[Card, ...]:
    return tuple(
        Card(
            heading=one_line(", ".join(hit.entities), 60) or ("Picture" if hit.kind == "image" else "Text"),
            text=post_text(hit.text),
            score=hit.cosine if hit.score is None else hit.score,
            score_text=f"{hit.cosine:.3f}" if hit.score is None else score_percent(hit.score),
            score_name="cosine" if hit.score is None else "match",
            meta=_meta(hit),
            explanation=post_text(hit.explanation),
            has_picture=hit.kind == "image",
            picture_id=one_line(hit.post_id, 60),
            thumbnail=thumbnail_of(hit.content_hash, media),
        )
        for hit in found
    )


def thumbnail_of(content_hash: str, media: MediaStore | None) -> bytes | None:
    """A picture's thumbnail; None where none is kept or its store is away: the page goes without.

    A hash from a foreign store may be anything.
    """
    try:
        return media.get(content_hash) if media is not None and content_hash else None
    except (ValueError, TransientError):
        return None


def default_media_store(store: str) -> Path:
    """Where the thumbnails of an embedded store lie if nobody names another place."""
    return Path(store) / "media"


def _meta(hit: Found) -> str:
    parts = [hit.post_id, hit.source, hit.published_at[:16].replace("T", " "), f"cosine {hit.cosine:.3f}"]
    return " · ".join(one_line(part, 80) for part in parts if part)
