"""Our own JSONL: one pair a line, pictures below the file's folder."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.rows import Fixture, Row, describe, make_rows, write_lines, write_picture


def write_jsonl(folder: Path, count: int = 12, *, traps: bool = True, explanations: bool = True) -> Fixture:
    """Write `pairs.jsonl`, all splits in one file, and `images/`."""
    rows = [row for row in make_rows(count, traps=traps) if not row.listed_as_broken]
    write_lines(folder / "pairs.jsonl", [_record(row, explanations) for row in rows])
    for row in rows:
        if row.repeats is None:
            write_picture(folder / _path(row), row)
    return describe(folder, f"jsonl:{folder / 'pairs.jsonl'}", rows, explanations=explanations)


def _path(row: Row) -> str:
    return f"images/{row.split}/{row.number:04d}.jpg"


def _record(row: Row, explanations: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "id": f"pair-{row.number if row.repeats is None else row.repeats}",
        "caption": row.caption,
        "article": f"article-{row.number // 2}",
        "section": row.section,
        "split": row.split,
        "credit": "drawn",
    }
    if row.has_image:
        record["image"] = _path(row)
    if explanations and row.explanation:
        record["explanation"] = row.explanation
    return record
