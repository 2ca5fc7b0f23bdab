"""What became of posts, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from worker.printable import one_line
from worker.tables import Column, print_heading, print_table
from worker.why.pairs import Pair
from worker.why.report import Explained, Stored, Story

_POINTS = (
    Column("kind"),
    Column("part"),
    Column("published"),
    Column("stored"),
    Column("explanation"),
    Column("text", wide=True),
    Column("explained as", wide=True),
)
_OUTCOMES = (
    Column("outcome"),
    Column("points", "right"),
    Column("matches", "right"),
    Column("explanation"),
    Column("finished"),
    Column("record", wide=True),
)
_LETTERS = (Column("reason"), Column("stage"), Column("attempts", "right"), Column("detail", wide=True))
_PAIRS = (
    Column("verdict"),
    Column("score", "right"),
    Column("cosine", "right"),
    Column("text rank", "right"),
    Column("picture rank", "right"),
    Column("other parts"),
    Column("text", wide=True),
    Column("picture", wide=True),
)


def why_json(answer: Explained) -> str:
    """Everything, indented."""

    def pair(found: Pair) -> dict[str, Any]:
        fields = asdict(found)
        return {"matches": found.matches, **fields.pop("parts"), **fields}

    document = asdict(answer)
    document["pairs"] = list(map(pair, answer.pairs))
    for story, fields in zip(answer.posts, document["posts"], strict=True):
        fields["partners"] = list(map(pair, story.partners))
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def print_why(answer: Explained, *, file: TextIO | None = None) -> None:
    """Print tables; what there is none of is said in a line."""
    for story in answer.posts:
        _print_story(story, file)
    least = f"a match needs a score of {answer.threshold:.3f}"
    if len(answer.posts) > 1:
        print_heading(f"The two together: {least}", file=file)
        if answer.pairs:
            print_table(_PAIRS, list(map(_pair_row, answer.pairs)), file=file)
        else:
            print(_no_pair(answer), file=file)
        return
    partners = answer.posts[0].partners
    if partners:
        print_heading(f"Nearest partners: {least}", file=file)
        print_table(_PAIRS, list(map(_pair_row, partners)), file=file)


def _print_story(story: Story, file: TextIO | None) -> None:
    print_heading(f"Post {story.post_id}", file=file)
    if story.points:
        print_table(_POINTS, list(map(_point_row, story.points)), file=file)
    else:
        print("not stored", file=file)
    if story.outcomes is not None:
        _print_records("outcome", _OUTCOMES, list(map(_outcome_row, story.outcomes)), file)
    if story.dead_letters is not None:
        _print_records("dead letter", _LETTERS, list(map(_letter_row, story.dead_letters)), file)


def _print_records(
    name: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], file: TextIO | None
) -> None:
    if rows:
        print_table(columns, rows, file=file)
    else:
        print(f"no {name}", file=file)


def _no_pair(answer: Explained) -> str:
    missing = [one_line(story.post_id) for story in answer.posts if not story.points]
    if missing:
        return f"no pair: {' and '.join(missing)} not stored"
    return "no pair: a match needs a text of the one and a picture of the other"


def _point_row(point: Stored) -> Sequence[str]:
    return (
        point.kind,
        one_line(point.part, 20),
        _minute(point.published_at),
        _minute(point.indexed_at),
        point.explanation_status,
        point.text,
        point.explanation,
    )


def _outcome_row(outcome: Mapping[str, Any]) -> Sequence[str]:
    def text(name: str) -> str:
        return str(outcome.get(name, ""))

    return (
        text("outcome"),
        text("points"),
        text("matches"),
        text("explanation_status"),
        _minute(text("finished_at")),
        f"{text('topic')}-{text('partition')}-{text('offset')}",
    )


def _letter_row(letter: Mapping[str, Any]) -> Sequence[str]:
    return str(letter["reason"]), str(letter["stage"]), str(letter["attempts"]), str(letter["detail"])


def _pair_row(pair: Pair) -> Sequence[str]:
    return (
        _verdict(pair),
        f"{pair.score:.3f}",
        f"{pair.cosine:.3f}",
        "" if pair.text_rank is None else str(pair.text_rank),
        "" if pair.image_rank is None else str(pair.image_rank),
        _parts(pair),
        f"{pair.text_post_id} window {pair.window}",
        f"{pair.image_post_id} image {pair.image_id}",
    )


def _verdict(pair: Pair) -> str:
    if not pair.matches:
        return ", ".join(pair.rules)
    return "match" + "".join(f", {one_line(post)} is out of context" for post in pair.out_of_context)


def _parts(pair: Pair) -> str:
    """The parts of the score that there are, beside the cosine, and the posts' own scores."""
    named = (
        ("entities", pair.parts.entity_overlap),
        ("margin", pair.parts.margin),
        ("explanation", pair.parts.explanation_similarity),
        ("matching head", pair.parts.itm),
        ("text's own", pair.text_own_score),
        ("picture's own", pair.image_own_score),
    )
    return ", ".join(f"{name} {value:.2f}" for name, value in named if value is not None)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
