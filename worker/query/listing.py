"""The answer to a query as tables, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from worker.page import score_percent
from worker.printable import one_line
from worker.query.hits import Found, Part
from worker.query.question import Query
from worker.query.search import Answer
from worker.tables import Column, print_heading, print_table

PART_NAMES = {
    "cosine": "likeness of text and picture",
    "explanation_similarity": "explanation and picture",
    "entity_overlap": "entities in common",
    "itm": "matching head",
}
_COLUMNS = (
    Column("score", "right"),
    Column("cosine", "right"),
    Column("post"),
    Column("published"),
    Column("entities"),
    Column("copies", "right"),
    Column("text or picture", wide=True),
)


def question(query: Query) -> str:
    """The query in words."""
    shown = []
    if "text" in query.asks:
        shown.append(one_line(query.text, 120))
    if query.image is not None:
        shown.append(
            f"the picture {one_line(query.image if '://' in query.image else Path(query.image).name, 120)}"
        )
    return " and ".join(shown)


def print_answer(query: Query, answer: Answer, *, explain: bool = False, file: TextIO | None = None) -> None:
    """Print a table of pictures and a table of texts; one line where there is nothing.

    Args:
        explain: print below each table what speaks for each of its hits.
    """
    if answer.explained.text:
        print(f"asked with the explanation: {one_line(answer.explained.text)}", file=file)
    if not answer.found:
        print(f"nothing found for {question(query)} among {answer.points} points", file=file)
        return
    for title, found in (("Pictures", answer.images), ("Texts", answer.texts)):
        if found:
            print_heading(title, file=file)
            print_table(_COLUMNS, [_row(hit) for hit in found], file=file)
            if explain:
                _print_evidence(answer, found, file)


def answer_json(query: Query, answer: Answer, *, explain: bool = False) -> str:
    """The query, the model and all that was found; scores are null where no calibration exists."""
    document = {
        "query": _asked(query),
        "explanation": answer.explained.text or None,
        "explanation_status": answer.explained.status.value,
        "model_id": answer.model_id,
        "points": answer.points,
        "images": [_hit_fields(hit, answer, explain) for hit in answer.images],
        "texts": [_hit_fields(hit, answer, explain) for hit in answer.texts],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def facts(hit: Found, answer: Answer) -> tuple[tuple[str, str], ...]:
    """What speaks for a hit, as names and values; values are foreign text, not cut."""
    found: list[tuple[str, str]] = []
    if hit.parts:
        found.append(("score", _sum(hit, answer)))
        found += [(PART_NAMES[part.name], _part(part)) for part in hit.parts]
    else:
        found.append(("score", "none: hits of the query's own kind are compared by cosine alone"))
    if hit.likeness is not None:
        found.append((f"cosine with the {hit.kind} asked with", f"{hit.likeness:.3f}"))
    found.append(("entities", ", ".join(hit.entities)))
    found.append(("explanation", hit.explanation))
    found.append(("published", hit.published_at))
    found.append(("source", hit.source))
    found.append(("url", hit.url))
    if hit.own_score is not None:
        found.append(("own post", own_pair(hit)))
    if hit.copies:
        found.append(("copies", f"{hit.copies} more with the same {hit.kind}"))
    return tuple((name, value) for name, value in found if value)


def own_pair(hit: Found) -> str:
    """Whether the hit belongs to the other half of its own post."""
    if hit.own_score is None:
        return ""
    other = "text" if hit.kind == "image" else "picture"
    line = f"belongs to its own {other} with {score_percent(hit.own_score)}"
    return f"{line}: out of context?" if hit.out_of_context else line


def _asked(query: Query) -> dict[str, object]:
    return {
        "text": query.text or None,
        "image": query.image,
        "top": query.top,
        "kinds": list(query.kinds),
        "since": None if query.since is None else query.since.isoformat(),
        "until": None if query.until is None else query.until.isoformat(),
        "sources": list(query.sources),
        "langs": list(query.langs),
        "entities": list(query.entities),
    }


def _hit_fields(hit: Found, answer: Answer, explain: bool) -> dict[str, object]:
    fields = asdict(hit)
    parts = fields.pop("parts")
    if explain:
        fields["evidence"] = {"intercept": answer.intercept, "parts": parts} if parts else None
    return fields


def _row(hit: Found) -> Sequence[str]:
    return (
        "" if hit.score is None else score_percent(hit.score),
        f"{hit.cosine:.3f}",
        one_line(hit.post_id, 28),
        hit.published_at[:16].replace("T", " "),
        one_line(", ".join(hit.entities), 28),
        f"+{hit.copies}" if hit.copies else "",
        f"{'out of context? ' if hit.out_of_context else ''}"
        f"{hit.text if hit.kind == 'text' else f'picture {hit.image_id}'}",
    )


def _print_evidence(answer: Answer, found: Sequence[Found], file: TextIO | None) -> None:
    for hit in found:
        what = f"picture {hit.image_id} of " if hit.kind == "image" else ""
        print_heading(f"{what}{one_line(hit.post_id, 60)}", file=file)
        for name, value in facts(hit, answer):
            print(f"  {name}: {one_line(value, 400)}", file=file)


def _sum(hit: Found, answer: Answer) -> str:
    total = answer.intercept + sum(part.contribution for part in hit.parts)
    shown = "" if hit.score is None else f"{score_percent(hit.score)}, "
    return f"{shown}calibrated from {total:+.2f}, which is {answer.intercept:+.2f} and what the parts add"


def _part(part: Part) -> str:
    value = "not known" if part.value is None else f"{part.value:.3f}"
    return f"{value}, adds {part.contribution:+.2f}"
