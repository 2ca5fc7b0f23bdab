"""Posts from a folder of pictures with captions: `name.jpg` and `name.txt` beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from worker.transport.reader import BATCH_BYTES, BATCH_RECORDS, Place, Read

# Those that the decoder refuses too: as dead letters they are at least named.
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".avif", ".tif", ".tiff", ".heic"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """A post to be: a picture, a caption, or both."""

    picture: Path | None
    caption: Path | None


class FolderReader:
    """Pictures, each with the caption beside it, then lone captions, in the order of their names.

    A record is a post that names the picture by its path within the folder; its id is the same path.
    Hidden files, and links that lead out of the folder, are left out.

    Args:
        folder: searched with all its subfolders.
        record_bytes: a longer caption is read up to one byte more, which decoding refuses.
        leave_out: as for `files_in`.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, record_bytes: int, leave_out: Collection[Path] = ()) -> None:
        self._folder, self._cap = folder, record_bytes
        self._entries = _entries(files_in(folder, leave_out))
        names = "\n".join(str(entry.picture or entry.caption) for entry in self._entries)
        self.fingerprint = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._next = 0

    def seek(self, place: Place) -> bool:
        self._next = place.position
        return True

    def read(self, timeout_s: float) -> list[Read]:
        """The next few; `timeout_s` says nothing, the disk is ready."""
        records: list[Read] = []
        size = 0
        while len(records) < BATCH_RECORDS and size < BATCH_BYTES and not self.at_end():
            post = self._post(self._entries[self._next])
            self._next += 1
            records.append(Read(self._next - 1, self._next, post))
            size += len(post)
        return records

    def at_end(self) -> bool:
        return self._next >= len(self._entries)

    def close(self) -> None:
        """Nothing is held open."""

    def _post(self, entry: _Entry) -> bytes:
        name = (entry.picture or entry.caption or self._folder).relative_to(self._folder).as_posix()
        post: dict[str, object] = {"id": name}
        if entry.picture is not None:
            post["images"] = [{"path": name}]
        if entry.caption is not None:
            try:
                with entry.caption.open("rb") as file:
                    post["text"] = file.read(self._cap + 1).decode("utf-8-sig", "replace").strip()
            except OSError:  # the post is empty then, a dead letter: not a picture without its text
                return json.dumps({"id": name}).encode()
        return json.dumps(post, ensure_ascii=not name.isprintable()).encode("utf-8", "replace")


def files_in(folder: Path, leave_out: Collection[Path] = ()) -> list[Path]:
    """The files below a folder, by name, without hidden ones and links that lead out of it.

    Args:
        leave_out: resolved files and folders; what is one of them, or lies in one, is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    next(folder.iterdir(), None)  # rglob passes over a folder that it may not read
    root = folder.resolve()
    inside = [place for place in leave_out if place != root and place.is_relative_to(root)]
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and path.resolve().is_relative_to(root)
        and not any(path.resolve().is_relative_to(place) for place in inside)
    )


def _entries(files: list[Path]) -> list[_Entry]:
    captions = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    taken = {path.with_suffix("") for path in pictures}
    lone = [path for stem, path in captions.items() if stem not in taken]
    paired = [_Entry(path, captions.get(path.with_suffix(""))) for path in pictures]
    return [*paired, *(_Entry(None, path) for path in lone)]
