"""N24News (arXiv:2108.13327): `imgs/<image_id>.jpg` and `news/nytimes_{train,dev,test}.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from model.data.explanations import apply_published
from model.data.files import find_pictures, read_json, relative_path
from model.data.rows import as_stored, collect, usable
from model.data.sample import LeftOut, Sample, Split

_FILE_NAMES = {"train": "train", "val": "dev", "test": "test"}
_SECTIONS = {"Fashion": "Fashion & Style"}  # one section under two names


class _Record(msgspec.Struct, frozen=True, gc=False):
    image_id: str | int | None = None
    caption: str | None = None
    section: str | None = None
    article_url: str | None = None


def read(root: Path, split: str) -> Split:
    """Read a split, with `news/CapDsc_mistral_{split}.json` as its explanations if that file is there.

    Captions that repeat stay: evaluation counts them as equally right.

    Raises:
        DataError: a file is missing or wrong.
    """
    name = _FILE_NAMES[split]
    records = read_json(root / "news" / f"nytimes_{name}.json", list[_Record])
    pictures = find_pictures(root, ("imgs", "images"))
    found = collect("n24news", split, pictures, _rows(records))
    return as_stored(apply_published(found, root / "news" / f"CapDsc_mistral_{name}.json"), pictures)


def _rows(records: list[_Record]) -> Iterator[Sample | LeftOut]:
    for record in records:
        image = relative_path(f"{record.image_id}.jpg") if record.image_id else ""
        section = _SECTIONS.get(record.section or "", record.section)
        yield usable(record.image_id, image, record.caption, article=record.article_url, section=section)
