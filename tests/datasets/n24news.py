"""N24News as it is on disk: imgs/ and news/, val is called dev."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.rows import Fixture, Row, describe, make_rows, write_json, write_picture

FILE_NAMES = {"train": "train", "val": "dev", "test": "test"}


def write_n24news(folder: Path, count: int = 12, *, traps: bool = True, explanations: bool = True) -> Fixture:
    """Write `imgs/`, `news/nytimes_*.json` and, with explanations, `news/CapDsc_mistral_*.json`."""
    rows = [row for row in make_rows(count, traps=traps) if not row.listed_as_broken]
    for split, name in FILE_NAMES.items():
        of_split = [row for row in rows if row.split == split]
        write_json(folder / "news" / f"nytimes_{name}.json", [_record(row) for row in of_split])
        if explanations:
            texts = {
                f"{_id(row)}.jpg": row.explanation
                for row in of_split
                if row.explanation and row.repeats is None
            }
            texts["0_of_no_row.jpg"] = "A banner that nobody waves."
            write_json(folder / "news" / f"CapDsc_mistral_{name}.json", texts)
    for row in rows:
        if row.repeats is None:
            write_picture(folder / "imgs" / f"{_id(row)}.jpg", row)
    return describe(folder, f"n24news:{folder}", rows, explanations=explanations)


def _id(row: Row) -> str:
    return f"100000{row.number if row.repeats is None else row.repeats:06d}"


def _record(row: Row) -> dict[str, object]:
    section = {"Travel": "Fashion & Style" if row.number % 2 else "Fashion"}.get(row.section, row.section)
    record: dict[str, object] = {
        "section": section,
        "headline": f"Headline {row.number}",
        "article_url": f"https://www.example.com/{row.number // 2}.html",
        "image_url": f"https://static.example.com/{row.number}.jpg",
        "article_id": f"a{row.number // 2}",
        "article": "The article. " * 5,
        "abstract": "The abstract.",
        "image_id": _id(row),
        "caption": row.caption,
    }
    if not row.has_image:
        record["image_id"] = None
    return record
