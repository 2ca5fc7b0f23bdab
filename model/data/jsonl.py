"""Our own form: JSON lines, one pair a line, pictures below the folder of the file.

    {"id": "7", "image": "images/7.jpg", "caption": "…", "explanation": "…", "article": "…", "section": "…",
     "split": "train"}

`id`, `image` and `caption` (or `text`) are needed, other fields are skipped. A folder holds a file a split
(`train.jsonl`, `val.jsonl`, `test.jsonl`). In a single file a row's `split` says where it belongs, else the
file's name does if it is one of those three; what then has no split gets a seeded one by its article, or by
its picture where it names no article.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from model.data.files import Pictures, read_json_lines, relative_path
from model.data.rows import SEEDED_SPLIT, collect, other_splits, seeded_split, usable
from model.data.sample import DataError, LeftOut, MissingFile, Sample, Split

_SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SEEDED, _UNKNOWN = "seeded", "unknown"  # how rows came, or did not come, to their split


class _Record(msgspec.Struct, frozen=True, gc=False):
    id: str | int | None = None
    image: str | None = None
    caption: str | None = None
    text: str | None = None
    explanation: str | None = None
    article: str | None = None
    section: str | None = None
    split: str | None = None


def read(path: Path, split: str) -> Split:
    """Read a split of a file or a folder of files.

    Raises:
        DataError: the file is missing or wrong, or a picture lies outside its folder.
    """
    file = _file_of(path, split) if path.is_dir() else path
    how: Counter[str] = Counter()
    found = collect("jsonl", split, Pictures(file.parent), _rows(file, split, how))
    if how[_SEEDED]:
        found.notes.append(f"{how[_SEEDED]} rows of {file.name} name no split; ours is {SEEDED_SPLIT}")
    if how[_UNKNOWN]:
        found.notes.append(other_splits(how[_UNKNOWN], file.name))
    return found


def _file_of(folder: Path, split: str) -> Path:
    names = [f"{name}.jsonl" for name, meant in _SPLIT_NAMES.items() if meant == split]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise MissingFile(f"{folder}: no {' or '.join(names)} is there")


def _rows(file: Path, split: str, how: Counter[str]) -> Iterator[Sample | LeftOut]:
    of_file = _SPLIT_NAMES.get(file.stem)
    for number, record in read_json_lines(file, _Record):
        image = _image(record.image or "", file, number)
        if record.split or of_file:
            its_split = _SPLIT_NAMES.get(record.split) if record.split else of_file
            how[_UNKNOWN] += its_split is None
        else:
            its_split = seeded_split(record.article or image)
            how[_SEEDED] += 1
        if its_split == split:
            yield usable(
                record.id,
                image,
                record.caption or record.text,
                explanation=record.explanation,
                article=record.article,
                section=record.section,
            )


def _image(text: str, file: Path, number: int) -> str:
    if not text:
        return ""
    image = relative_path(text)
    if text.startswith("/"):
        folder = file.parent.resolve()
        image = (
            relative_path(str(Path(text).relative_to(folder))) if Path(text).is_relative_to(folder) else ""
        )
    if not image:
        raise DataError(f"{file} line {number}: the picture {text[:200]!r} is not below the file's folder")
    return image
