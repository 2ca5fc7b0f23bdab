"""Statistics as tables, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from worker.printable import one_line
from worker.stats.collect import Count, ModelCollection, Statistics
from worker.tables import Column, print_heading, print_table

_VALUE_LIMIT = 80  # characters


def stats_json(found: Statistics) -> str:
    """Everything, indented."""
    return json.dumps(asdict(found), indent=2, ensure_ascii=False)


def print_stats(found: Statistics, *, file: TextIO | None = None) -> None:
    """Print a table each; one that would be empty is left out."""
    print(f"{found.points:,} points in {found.collection}", file=file)
    _print_models(found.models, file)
    for title, counts in (
        ("Kind", found.kinds),
        ("Source", found.sources),
        ("Language", found.langs),
        ("Explanation", found.explanation_statuses),
        ("Entity", found.entities),
        ("Published", _published(found)),
    ):
        if counts:
            _print_counts(title, counts, found.points, file)


def _print_models(models: Sequence[ModelCollection], file: TextIO | None) -> None:
    columns = (
        Column("model"),
        Column("points", "right"),
        Column("in the search graph", "right"),
        Column("served"),
    )
    rows = [
        (
            model.model_id,
            f"{model.points:,}",
            f"{model.indexed_vectors:,}",
            "yes" if model.is_served else "no",
        )
        for model in models
    ]
    print_heading("Model", file=file)
    print_table(columns, rows, file=file)


def _print_counts(title: str, counts: Sequence[Count], points: int, file: TextIO | None) -> None:
    columns = (Column(title.lower()), Column("points", "right"), Column("share", "right"))
    rows = [
        (one_line(count.value, _VALUE_LIMIT), f"{count.points:,}", _share(count.points, points))
        for count in counts
    ]
    print_heading(title, file=file)
    print_table(columns, rows, file=file)


def _published(found: Statistics) -> tuple[Count, ...]:
    days = found.published
    rest = (Count("later", days.later), Count("earlier", days.earlier), Count("no date", days.undated))
    return (*(count for count in rest[:1] if count.points), *days.days, *rest[1:])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""
