"""The answer to a query as a page of cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.errors import TransientError
from worker.media import MediaStore
from worker.page import Badge, Card, HitsPage, Section, Tile, post_text, render_hits, score_percent
from worker.printable import one_line
from worker.query.hits import Found
from worker.query.listing import facts, own_pair, question
from worker.query.question import Query
from worker.query.search import Answer

_CALIBRATED = "The score is the calibrated probability that it is about the same entity."
_ALIKE = "Compared by likeness alone (cosine); no probability can be given."
_BOTH = (
    "Ordered by both likenesses; the score is the calibrated probability that it is about the same entity "
    "as the {other} that was asked with."
)
_FACT_LIMIT = 120  # characters


def answer_html(
    query: Query,
    answer: Answer,
    media: MediaStore | None,
    *,
    explain: bool = False,
) -> str:
    """One self-contained page.

    Args:
        media: where thumbnails are; None where none are kept.
        explain: whether each card tells what speaks for it.
    """
    hits = {"image": answer.images, "text": answer.texts}
    titles = {"image": "Pictures", "text": "Texts"}
    return render_hits(
        HitsPage(
            title=f"“{question(query)}”" if query.asks == ("text",) else _capital(question(query)),
            lede=_lede(query),
            tiles=(
                *(Tile(f"{titles[kind]} found", str(len(hits[kind]))) for kind in query.kinds),
                Tile("Points in the store", f"{answer.points:,}"),
            ),
            sections=tuple(
                Section(titles[kind], _hint(query, kind), _cards(hits[kind], answer, media, explain))
                for kind in query.kinds
            ),
            footer=(f"Model {answer.model_id}",),
            picture=answer.thumbnail,
            explanation=post_text(answer.explained.text),
        )
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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _hint(query: Query, kind: str) -> str:
    if len(query.asks) > 1:
        return _BOTH.format(other="text" if kind == "image" else "picture")
    return _ALIKE if query.asks == (kind,) else _CALIBRATED


def _lede(query: Query) -> str:
    conditions = [f"the best {query.top} of each kind" if len(query.kinds) > 1 else f"the best {query.top}"]
    if query.since is not None:
        conditions.append(f"published since {query.since:%Y-%m-%d %H:%M} UTC")
    if query.until is not None:
        conditions.append(f"published until {query.until:%Y-%m-%d %H:%M} UTC")
    for before, values in (("from", query.sources), ("in", query.langs), ("about", query.entities)):
        if values:
            conditions.append(f"{before} {' or '.join(one_line(value, 60) for value in values)}")
    return f"What the store holds: {', '.join(conditions)}."


def _cards(
    found: Sequence[Found], answer: Answer, media: MediaStore | None, explain: bool
) -> tuple[Card, ...]:
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
            thumbnail=thumbnail_of(hit.content_hash, media) if hit.kind == "image" else None,
            badge=Badge("out of context?", "missed") if hit.out_of_context else None,
            facts=_facts(hit, answer) if explain else (),
        )
        for hit in found
    )


def _facts(hit: Found, answer: Answer) -> tuple[tuple[str, str], ...]:
    elsewhere = {"entities", "explanation", "published", "source", "copies"}  # on the card already
    return tuple(
        (name, one_line(value, _FACT_LIMIT)) for name, value in facts(hit, answer) if name not in elsewhere
    )


def _meta(hit: Found) -> str:
    copies = f"{hit.copies} more with the same {hit.kind}" if hit.copies else ""
    own = own_pair(hit) if hit.out_of_context else ""
    published = hit.published_at[:16].replace("T", " ")
    parts = [hit.post_id, hit.source, published, f"cosine {hit.cosine:.3f}", copies, own]
    return " · ".join(one_line(part, 80) for part in parts if part)
