"""VisualNews (arXiv:2010.03743): the official `origin/data.json`, or the published split files.

Published (any of `train.json`, `val.json`, `test.json`) is read if it is there, else official; a note of the
split says which. The official file has no splits: ours keeps the pictures of an article together.
`origin.tar` may stay packed once its data.json has been taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from model.data.explanations import apply_published
from model.data.files import Pictures, find_pictures, find_tar, read_json, relative_path
from model.data.rows import SEEDED_SPLIT, SPLITS, as_stored, collect, seeded_split, usable
from model.data.sample import DataError, LeftOut, Sample, Split


class _Record(msgspec.Struct, frozen=True, gc=False):
    id: str | int | None = None
    caption: str | None = None
    topic: str | None = None
    image_path: str | None = None
    article_path: str | None = None


def read(root: Path, split: str) -> Split:
    """Read a split; the published form has `CapDsc_mistral_{split}.json` as its explanations, if it is there.

    Raises:
        DataError: a file is missing or wrong.
    """
    if any((root / f"{name}.json").is_file() for name in SPLITS):
        return _read_published(root, split)
    for folder in (root / "origin", root):
        if (folder / "data.json").is_file():
            return _read_official(folder, split)
    if packed := find_tar(root, "origin"):
        raise DataError(f"{root}: there is no origin/data.json: take it out of {packed.path.name}")
    raise DataError(f"{root}: neither train.json, val.json or test.json nor origin/data.json is there")


def _read_published(root: Path, split: str) -> Split:
    records = read_json(root / f"{split}.json", list[_Record])
    pictures = find_pictures(root, ("images", "origin"))
    found = collect("visualnews", split, pictures, _rows(records))
    found.notes.append(f"published split: {split}.json")
    return as_stored(apply_published(found, root / f"CapDsc_mistral_{split}.json"), pictures)


def _read_official(folder: Path, split: str) -> Split:
    records = read_json(folder / "data.json", list[_Record])
    pictures = _official_pictures(folder)
    chosen = (record for record in records if _split_of(record) == split)
    found = collect("visualnews", split, pictures, _rows(chosen))
    found.notes.append(f"data.json of {len(records)} rows, split by article: {SEEDED_SPLIT}")
    return as_stored(found, pictures)


def _official_pictures(folder: Path) -> Pictures:
    """The folder itself, unless it holds no folder: then the tar it came from."""
    if any(path.is_dir() for path in folder.iterdir()):
        return Pictures(folder)
    packed = find_tar(folder, "origin") or find_tar(folder.parent, "origin")
    if packed is None:
        raise DataError(
            f"{folder}: the pictures are missing, expected folders such as bbc/, or an origin.tar"
        )
    return packed


def _split_of(record: _Record) -> str:
    return seeded_split(relative_path(record.article_path or record.image_path or ""))


def _rows(records: Iterable[_Record]) -> Iterator[Sample | LeftOut]:
    for record in records:
        image = relative_path(record.image_path or "")
        article = relative_path(record.article_path or "")
        yield usable(record.id, image, record.caption, article=article, section=record.topic)
