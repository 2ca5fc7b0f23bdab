"""The form in which explanations of the benchmarks are published: one JSON object, picture to text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from worker.errors import ConfigError
from worker.explain_dataset.items import Item
from worker.explain_dataset.journal import Journal
from worker.store.files import sync_folder

_BY_FILE_NAME: Final = ("n24news", "goodnews")  # the other readers know a picture by its path


def write_published(path: Path, kind: str, items: Iterable[Item], journal: Journal) -> int:
    """Write the explanations that the journal holds, in the order of the items, as a whole or not at all.

    Args:
        kind: of the data set; says how its reader knows a picture.

    Returns:
        How many there are.

    Raises:
        ConfigError: the file cannot be written, or one picture has several explanations.
    """
    texts = _texts(kind, items, {each.id: each.explanation for each in journal.entries() if each.explanation})
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(texts), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return len(texts)


def _texts(kind: str, items: Iterable[Item], found: Mapping[str, str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for item in items:
        if text := found.get(item.id):
            key = PurePosixPath(item.image).name if kind in _BY_FILE_NAME else item.image
            if texts.setdefault(key, text) != text:
                raise ConfigError(f"the picture {key} has several explanations: leave --format json away")
    return texts
