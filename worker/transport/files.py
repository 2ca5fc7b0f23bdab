"""Posts from a JSONL file, a folder of pictures with captions, or standard input.

A file is one partition and a line's number is its offset. A folder is several: its pictures and captions,
then each JSONL file in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from worker.errors import ConfigError
from worker.transport.base import Partition, Record

STDIN = "-"
_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".avif"})
_BATCH_RECORDS = 64
_BATCH_BYTES = 8 << 20
_READ_BYTES = 1 << 18
_PAUSED_S = 0.05
_FINGERPRINT_BYTES = 4096


class _Place(msgspec.Struct):
    """Where a partition is to be resumed.

    Args:
        next_offset: first record that is not committed.
        position: what the reader needs to find it: a byte offset, or the record's number.
        fingerprint: of the partition's beginning; another one is another source.
    """

    next_offset: int
    position: int
    fingerprint: str


class _Reader(Protocol):
    """One partition's records in order."""

    fingerprint: str

    def seek(self, place: _Place) -> None:
        """Go on from there."""

    def read(self, timeout_s: float) -> list[tuple[int, int, bytes]]:
        """The next (offset, position behind it, value); empty when none came in time."""

    def at_end(self) -> bool:
        """Whether all was read."""

    def close(self) -> None:
        """Let go of the file."""


class FileSource:
    """`Source` over files; a run that was interrupted is resumed, one that was finished starts anew.

    Args:
        path: a JSONL file, a folder, or `-` for standard input (never resumed).
        offsets: small JSON file that keeps what was committed; None for nowhere.
        record_bytes: longer lines are delivered cut to one byte more, which decoding refuses.

    Raises:
        ConfigError: nothing readable there.
    """

    def __init__(self, path: str, offsets: Path | None, record_bytes: int) -> None:
        self._offsets = offsets if path != STDIN else None
        self.media_root = _media_root(path)
        self._readers = {
            Partition(path, number): reader for number, reader in enumerate(_open(path, record_bytes))
        }
        self._left = deque(self._readers)
        self._places: dict[Partition, _Place] = {}
        self._ends: dict[Partition, deque[tuple[int, int]]] = {
            partition: deque() for partition in self._readers
        }
        self._paused = False
        self.resumed_from = self._resume()

    def poll(self, timeout_s: float) -> Sequence[Record]:
        if self._paused:
            time.sleep(min(timeout_s, _PAUSED_S))
            return []
        while self._left:
            partition = self._left[0]
            reader = self._readers[partition]
            if records := reader.read(timeout_s):
                self._ends[partition].extend((offset, position) for offset, position, _ in records)
                return [Record(partition, offset, None, value) for offset, _, value in records]
            if not reader.at_end():
                return []
            self._left.popleft()
        return []

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        for partition, next_offset in next_offsets.items():
            ends = self._ends[partition]
            while ends and ends[0][0] < next_offset:
                _, position = ends.popleft()
                fingerprint = self._readers[partition].fingerprint
                self._places[partition] = _Place(next_offset, position, fingerprint)
        self._save()

    def epoch(self, partition: Partition) -> int | None:
        return 0 if partition in self._readers else None

    def exhausted(self) -> bool:
        while self._left and self._readers[self._left[0]].at_end():
            self._left.popleft()
        return not self._left

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._save()

    def _finished(self) -> bool:
        return self.exhausted() and not any(self._ends.values())

    def _resume(self) -> int:
        """Seek to what was committed; returns the number of records that are skipped."""
        saved = _load(self._offsets) if self._offsets else {}
        skipped = 0
        for partition, reader in self._readers.items():
            place = saved.get(_name(partition))
            if place is not None and place.fingerprint == reader.fingerprint:
                reader.seek(place)
                self._places[partition] = place
                skipped += place.next_offset
        return skipped

    def _save(self) -> None:
        if self._offsets is None:
            return
        saved = _load(self._offsets)
        for partition in self._readers:
            saved.pop(_name(partition), None)
        if not self._finished():  # a finished source leaves nothing behind: the next run starts anew
            saved |= {_name(partition): place for partition, place in self._places.items()}
        part = self._offsets.with_name(self._offsets.name + ".part")
        self._offsets.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(msgspec.json.encode(saved))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._offsets)


class _LineReader:
    """Lines of a file or a pipe, never more of it in memory than one line up to the cap."""

    def __init__(self, descriptor: int, fingerprint: str, record_bytes: int) -> None:
        self.fingerprint = fingerprint
        self._descriptor, self._cap = descriptor, record_bytes
        self._buffer = bytearray()
        self._line, self._position = 0, 0  # the number and the byte at which the buffer starts
        self._overlong = 0  # bytes of the present line that were thrown away
        self._ended = False

    def seek(self, place: _Place) -> None:
        os.lseek(self._descriptor, place.position, os.SEEK_SET)
        self._line, self._position = place.next_offset, place.position

    def read(self, timeout_s: float) -> list[tuple[int, int, bytes]]:
        records: list[tuple[int, int, bytes]] = []
        size = 0
        while len(records) < _BATCH_RECORDS and size < _BATCH_BYTES:
            line = self._take_line()
            if line is None:
                if self._ended or not self._fill(0.0 if records else timeout_s):
                    break
            elif value := line.strip():
                records.append((self._line - 1, self._position, value))
                size += len(value)
        return records

    def at_end(self) -> bool:
        return self._ended and not self._buffer

    def close(self) -> None:
        if self._descriptor != sys.__stdin__.fileno() if sys.__stdin__ else True:
            os.close(self._descriptor)

    def _fill(self, timeout_s: float) -> bool:
        """Read some more; False when nothing came in time or the end was reached."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not ready:
            return False
        chunk = os.read(self._descriptor, _READ_BYTES)
        self._ended = not chunk
        self._buffer += chunk
        return bool(chunk) or bool(self._buffer)

    def _take_line(self) -> bytes | None:
        """The next whole line without its end, cut to one byte over the cap; None if it is not there yet."""
        end = self._buffer.find(b"\n")
        if end < 0 and not (self._ended and self._buffer):
            surplus = len(self._buffer) - (self._cap + 1)
            if surplus > 0:  # keep the beginning only, count the rest
                del self._buffer[self._cap + 1 :]
                self._overlong += surplus
            return None
        length = len(self._buffer) if end < 0 else end
        line = bytes(self._buffer[: min(length, self._cap + 1)])
        consumed = length + (end >= 0)
        del self._buffer[:consumed]
        self._position += consumed + self._overlong
        self._overlong = 0
        self._line += 1
        return line


class _FolderReader:
    """A folder's pictures, each with the caption beside it, and its lone captions, as posts."""

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        pictures = [path for path in files if path.suffix.lower() in _IMAGE_SUFFIXES]
        captioned = {path.with_suffix(".txt") for path in pictures}
        texts = [path for path in files if path.suffix.lower() == ".txt" and path not in captioned]
        self._folder, self._posts = folder, [*pictures, *texts]
        names = "\n".join(str(path.relative_to(folder)) for path in self._posts)
        self.fingerprint = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._next = 0

    def seek(self, place: _Place) -> None:
        self._next = place.position

    def read(self, timeout_s: float) -> list[tuple[int, int, bytes]]:  # noqa: ARG002 - the disk is ready
        start, stop = self._next, min(self._next + _BATCH_RECORDS, len(self._posts))
        self._next = stop
        return [(index, index + 1, self._post(self._posts[index])) for index in range(start, stop)]

    def at_end(self) -> bool:
        return self._next >= len(self._posts)

    def close(self) -> None:
        """Nothing is held open."""

    def _post(self, path: Path) -> bytes:
        name = str(path.relative_to(self._folder))
        post: dict[str, object] = {"id": name}
        caption = path.with_suffix(".txt")
        if caption.is_file():
            post["text"] = caption.read_text(encoding="utf-8", errors="replace").strip()
        if path.suffix.lower() in _IMAGE_SUFFIXES:
            post["images"] = [{"path": name}]
        return json.dumps(post).encode()


def _open(path: str, record_bytes: int) -> list[_Reader]:
    if path == STDIN:
        return [_LineReader(sys.stdin.fileno(), "", record_bytes)]
    place = Path(path)
    try:
        if not place.is_dir():
            return [_open_lines(place, record_bytes)]
        lines = sorted(file for file in place.rglob("*.jsonl") if file.is_file())
        readers: list[_Reader] = [_FolderReader(place), *(_open_lines(file, record_bytes) for file in lines)]
    except OSError as error:
        raise ConfigError(f"the source {path} cannot be read: {error.strerror}") from error
    if all(reader.at_end() for reader in readers):
        raise ConfigError(f"the source {path} holds no pictures, captions or JSONL files")
    return readers


def _open_lines(path: Path, record_bytes: int) -> _LineReader:
    descriptor = os.open(path, os.O_RDONLY)
    fingerprint = hashlib.sha256(os.pread(descriptor, _FINGERPRINT_BYTES, 0)).hexdigest()[:16]
    return _LineReader(descriptor, fingerprint, record_bytes)


def _media_root(path: str) -> Path | None:
    if path == STDIN:
        return None
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _name(partition: Partition) -> str:
    return f"{Path(partition.topic).resolve()}#{partition.number}"


def _load(path: Path) -> dict[str, _Place]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Place])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the offsets in {path} cannot be read: {error}; remove the file to start anew"
        ) from error
