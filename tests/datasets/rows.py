"""Rows with every trap, before a writer puts them into the format of a benchmark."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model.data.sample import LeftOut
from tests.datasets.pictures import News, draw_news

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set.

    Args:
        number: unique in the data set; writers make ids and paths of it.
        split: `train`, `val` or `test`.
        caption: None is JSON's null.
        explanation: empty where the explanation file has none.
        jpeg: bytes of the picture's file; None: there is no such file.
        has_image: whether the row names a picture at all.
        listed_as_broken: in GoodNews' list; elsewhere such a row is left away.
        repeats: number of the row whose id it has again.
    """

    number: int
    split: str
    caption: str | None
    explanation: str
    section: str
    jpeg: bytes | None
    has_image: bool = True
    listed_as_broken: bool = False
    repeats: int | None = None


@dataclass(slots=True)
class Fixture:
    """What was written, and what must come of it, by split.

    Args:
        root: the folder.
        spec: what `read_split` takes.
        read: rows that the reader gives.
        explained: how many of them have an explanation.
        left_out: rows that the reader counts as left out.
        pictures_left_out: rows that fall away when the pictures are opened.
    """

    root: Path
    spec: str
    read: dict[str, int] = field(default_factory=dict)
    explained: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, Counter[LeftOut]] = field(default_factory=dict)
    pictures_left_out: dict[str, Counter[LeftOut]] = field(default_factory=dict)

    def usable(self, split: str) -> int:
        """Rows that remain once the pictures have been opened."""
        return self.read[split] - self.pictures_left_out[split].total()


def make_rows(count: int, *, traps: bool, seed: int = 0) -> list[Row]:
    """`count` good rows in train and a third of it (at least four) in val and in test.

    With traps, each split has nine rows more: two that are usable (the caption of its first row again, the
    picture of its second row again) and seven that are not.
    """
    sizes = dict(zip(SPLITS, (count, max(4, count // 3), max(4, count // 3)), strict=True))
    news = iter(draw_news(sum(sizes.values()) + len(sizes) * 5, seed))
    rows: list[Row] = []
    for split, size in sizes.items():
        good = [next(news) for _ in range(size)]
        rows += [_row(len(rows) + i, split, one) for i, one in enumerate(good)]
        if traps:
            rows += _traps(len(rows), split, good, [next(news) for _ in range(5)])
    return rows


def _row(number: int, split: str, news: News) -> Row:
    return Row(number, split, news.caption, news.explanation, news.section, news.jpeg)


def _traps(first: int, split: str, good: list[News], more: list[News]) -> list[Row]:
    a, b, c, d, e = more
    return [
        Row(first, split, good[0].caption, a.explanation, a.section, a.jpeg),
        Row(first + 1, split, b.caption, "", b.section, good[1].jpeg),
        Row(first + 2, split, "  ", c.explanation, c.section, c.jpeg),
        Row(first + 3, split, None, c.explanation, c.section, c.jpeg),
        Row(first + 4, split, c.caption, c.explanation, c.section, None),
        Row(first + 5, split, e.caption, e.explanation, e.section, e.jpeg[: len(e.jpeg) // 3]),
        Row(first + 6, split, d.caption, d.explanation, d.section, None, has_image=False),
        Row(first + 7, split, d.caption, d.explanation, d.section, d.jpeg, listed_as_broken=True),
        Row(first + 8, split, d.caption, d.explanation, d.section, d.jpeg, repeats=first),
    ]


def describe(root: Path, spec: str, rows: Iterable[Row], *, explanations: bool = True) -> Fixture:
    """Say what a reader must make of the rows that a writer has written."""
    fixture = Fixture(root, spec)
    for split in SPLITS:
        of_split = [row for row in rows if row.split == split]
        reasons = [_reason(row) for row in of_split]
        read = [row for row, reason in zip(of_split, reasons, strict=True) if reason is None]
        fixture.read[split] = len(read)
        fixture.explained[split] = sum(bool(row.explanation) for row in read) if explanations else 0
        fixture.left_out[split] = Counter(reason for reason in reasons if reason is not None)
        fixture.pictures_left_out[split] = Counter(
            LeftOut.MISSING_IMAGE if row.jpeg is None else LeftOut.BROKEN_IMAGE
            for row in read
            if row.jpeg is None or not row.jpeg.endswith(b"\xff\xd9")
        )
    return fixture


def _reason(row: Row) -> LeftOut | None:
    if not row.has_image:
        return LeftOut.INCOMPLETE_ROW
    if row.listed_as_broken:
        return LeftOut.LISTED_AS_BROKEN
    if row.repeats is not None:
        return LeftOut.REPEATED_ID
    if row.caption is None or not row.caption.strip():
        return LeftOut.EMPTY_CAPTION
    return None


def write_picture(path: Path, row: Row) -> None:
    """Write the row's picture, if it has one."""
    if row.jpeg is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.jpeg)


def write_json(path: Path, value: object) -> None:
    """Write JSON as Python writes it: ASCII, everything else escaped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, values: Iterable[object]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def pack(folder: Path, name: str, *, from_inside: bool = False) -> Path:
    """Put the pictures of a folder into a tar beside it and remove them; other files stay where they are.

    Args:
        from_inside: members are named `./1.jpg`, not `name/1.jpg`.
    """
    source = folder / name
    with tarfile.open(folder / f"{name}.tar", "w") as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                inside = path.relative_to(source).as_posix()
                archive.add(path, f"./{inside}" if from_inside else f"{name}/{inside}")
    for path in source.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix == ".jpg":
            path.unlink()
    if not any(source.iterdir()):
        source.rmdir()
    return folder / f"{name}.tar"
