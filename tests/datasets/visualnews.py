"""VisualNews as it is on disk: the official data.json beside its pictures, and the published split files."""

from __future__ import annotations

from itertools import count as count_from
from pathlib import Path

from model.data.rows import seeded_split
from tests.datasets.rows import SPLITS, Fixture, Row, describe, make_rows, pack, write_json, write_picture

_SOURCES = ("washington_post", "guardian", "bbc", "usa_today")


def write_visualnews_published(
    folder: Path, count: int = 12, *, traps: bool = True, explanations: bool = True
) -> Fixture:
    """Write `images/`, `{train,val,test}.json` and, with explanations, `CapDsc_mistral_*.json`."""
    rows = _rows(count, traps)
    for split in SPLITS:
        of_split = [row for row in rows if row.split == split]
        write_json(folder / f"{split}.json", [_record(row) for row in of_split])
        if explanations:
            write_json(folder / f"CapDsc_mistral_{split}.json", _explanations(of_split))
    _write_pictures(folder / "images", rows)
    return describe(folder, f"visualnews:{folder}", rows, explanations=explanations)


def write_visualnews_official(
    folder: Path, count: int = 12, *, traps: bool = True, tar: bool = False
) -> Fixture:
    """Write `origin/data.json` and the pictures below `origin/`, or in `origin.tar`.

    The official release has no splits and no explanations; articles are named so that each row falls into
    the seeded split that its `Row` says.
    """
    rows = _rows(count, traps)
    write_json(folder / "origin" / "data.json", [_record(row) for row in rows])
    _write_pictures(folder / "origin", rows)
    if tar:
        pack(folder, "origin")
    return describe(folder, f"visualnews:{folder}", rows, explanations=False)


def _rows(count: int, traps: bool) -> list[Row]:
    return [row for row in make_rows(count, traps=traps) if not row.listed_as_broken]


def _id(row: Row) -> int:
    return row.number if row.repeats is None else row.repeats


def _path(row: Row) -> str:
    number = _id(row)
    return f"./{_SOURCES[number % 4]}/images/{number // 10:04d}/{number % 10:03d}.jpg"


def _record(row: Row) -> dict[str, object]:
    source = _SOURCES[_id(row) % 4]
    return {
        "id": _id(row),
        "caption": row.caption,
        "topic": row.section.lower(),
        "source": source,
        "image_path": _path(row) if row.has_image else None,
        "article_path": _article(source, row),
    }


def _article(source: str, row: Row) -> str:
    """The first name from the row's number on that falls into its split."""
    names = (f"{source}/articles/{number}.txt" for number in count_from(100 * row.number))
    return "./" + next(name for name in names if seeded_split(name) == row.split)


def _explanations(rows: list[Row]) -> dict[str, str]:
    """Keyed as their authors did: absolute paths of another machine, two slashes behind `images`."""
    home = "/somewhere/else/VisualNews/images/"
    texts = {
        home + _path(row)[1:]: row.explanation
        for row in rows
        if row.has_image and row.explanation and row.repeats is None
    }
    return texts | {home + "/bbc/images/9999/999.jpg": "A banner that nobody waves."}


def _write_pictures(folder: Path, rows: list[Row]) -> None:
    for row in rows:
        if row.repeats is None:
            write_picture(folder / _path(row), row)
