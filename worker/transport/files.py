"""Posts from a JSONL file, a folder of pictures with captions, or standard input.

A file is one partition and a line's number is its offset. A folder that holds JSONL files has a partition
for each of them; any other folder is one partition of pictures with the captions beside them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from worker.errors import ConfigError, TransientError
from worker.transport.base import Partition, Record
from worker.transport.folder import FolderReader, files_in
from worker.transport.lines import LineReader
from worker.transport.reader import Place, Read, Reader

STDIN = "-"
_PAUSED_S = 0.05


class FileSource:
    """A `Source` over files; a run that was interrupted is resumed, one that was finished starts anew.

    Args:
        path: a JSONL file, a folder, or `-` for standard input (never resumed).
        offsets: small JSON file that keeps what was committed; None for nowhere.
        record_bytes: longer lines are delivered cut to one byte more, which decoding refuses.
        leave_out: files and folders that the run itself writes; in a folder they are passed over, else a
            run would read what it writes and never end.

    Attributes:
        media_root: folder below which a post's image paths may lie; None for standard input.
        resumed_from: records that an earlier run has done; 0 at a start from the beginning.

    Raises:
        ConfigError: nothing readable there; one line.
    """

    def __init__(
        self, path: str, offsets: Path | None, record_bytes: int, leave_out: Collection[Path] = ()
    ) -> None:
        self._offsets = offsets if path != STDIN else None
        self.media_root = media_root_of(path)
        topic = os.fsencode(path).decode("utf-8", "backslashreplace")  # a path may be no text
        readers = _open(path, record_bytes, [place.resolve() for place in leave_out])
        self._readers = {Partition(topic, number): reader for number, reader in enumerate(readers)}
        place = Path(topic).resolve()  # once: a folder may have thousands of partitions
        self._names = {partition: f"{place}#{partition.number}" for partition in self._readers}
        self._left = deque(self._readers)
        self._places: dict[Partition, Place] = {}
        self._delivered: dict[Partition, deque[Read]] = {partition: deque() for partition in self._readers}
        self._paused = False
        self.resumed_from = self._resume()

    def poll(self, timeout_s: float) -> Sequence[Record]:
        if self._paused:
            time.sleep(min(timeout_s, _PAUSED_S))
            return []
        while self._left:
            partition = self._left[0]
            reader = self._readers[partition]
            if read := reader.read(timeout_s):
                self._delivered[partition].extend(Read(each.offset, each.position, b"") for each in read)
                return [Record(partition, each.offset, None, each.value) for each in read]
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
            waiting = self._delivered[partition]
            while waiting and waiting[0].offset < next_offset:
                done = waiting.popleft()
                fingerprint = self._readers[partition].fingerprint
                note = self.note(partition)
                self._places[partition] = Place(done.offset + 1, done.position, fingerprint, note)
        self._save()

    def mark(self, notes: Mapping[Partition, str]) -> None:
        for partition, note in notes.items():
            place = self._places.get(partition) or Place(0, 0, self._readers[partition].fingerprint)
            self._places[partition] = msgspec.structs.replace(place, note=note)
        self._save(durable=False)  # it tells of a process that died, not of a machine

    def note(self, partition: Partition) -> str:
        place = self._places.get(partition)
        return place.note if place else ""

    def epoch(self, partition: Partition) -> int | None:
        return 0 if partition in self._readers else None

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def away(self) -> str:
        return ""

    def exhausted(self) -> bool:
        while self._left and self._readers[self._left[0]].at_end():
            self._left.popleft()
        return not self._left

    def close(self, *, clean: bool = True) -> None:
        """Let go of the files. What was committed stands."""
        finished = self._finished()  # perhaps noticed only after the last commit
        for reader in self._readers.values():
            reader.close()
        if clean:
            cleared = {key: msgspec.structs.replace(place, note="") for key, place in self._places.items()}
            self._places = cleared
        with contextlib.suppress(TransientError):
            self._save(finished=finished)

    def _finished(self) -> bool:
        return self.exhausted() and not any(self._delivered.values())

    def _resume(self) -> int:
        """Go to where an earlier run stopped; returns the number of records that are passed over."""
        saved = _load(self._offsets) if self._offsets else {}
        passed = 0
        for partition, reader in self._readers.items():
            place = saved.get(self._names[partition])
            if place is None or not reader.fingerprint or place.fingerprint != reader.fingerprint:
                continue
            if not reader.seek(place):  # from the beginning, then, but with what is known of its records
                place = Place(0, 0, place.fingerprint, place.note)
            self._places[partition] = place
            passed += place.next_offset
        return passed

    def _save(self, *, finished: bool | None = None, durable: bool = True) -> None:
        if self._offsets is None:
            return
        saved = _load(self._offsets)
        for partition in self._readers:
            saved.pop(self._names[partition], None)
        if not (self._finished() if finished is None else finished):  # what is finished leaves nothing behind
            saved |= {self._names[partition]: place for partition, place in self._places.items()}
        try:
            _replace(self._offsets, msgspec.json.encode(saved), durable)
        except OSError as error:
            message = f"the offsets {self._offsets} cannot be written: {error.strerror}"
            raise TransientError(message) from error


def _open(path: str, record_bytes: int, leave_out: Collection[Path]) -> list[Reader]:
    if path == STDIN:
        return [LineReader(None, record_bytes)]
    place = Path(path)
    try:
        if not place.is_dir():
            if place.resolve() in leave_out:
                raise ConfigError(f"the source {path} is where this run writes: name another file")
            return [LineReader(place, record_bytes)]
        lines = [file for file in files_in(place, leave_out) if file.suffix.lower() == ".jsonl"]
        # pictures beside JSONL files belong to the posts in them and are none of their own
        readers: list[Reader] = [LineReader(file, record_bytes) for file in lines]
        if not readers:
            readers = [FolderReader(place, record_bytes, leave_out)]
    except OSError as error:
        raise ConfigError(f"the source {path} cannot be read: {error.strerror}") from error
    if all(reader.at_end() for reader in readers):
        raise ConfigError(f"the source {path} holds no pictures, captions or JSONL files")
    return readers


def media_root_of(path: str) -> Path | None:
    """Folder below which the image paths of a source may lie; None for standard input."""
    if path == STDIN:
        return None
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _replace(path: Path, content: bytes, durable: bool) -> None:
    """Write the file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    part.replace(path)


def _load(path: Path) -> dict[str, Place]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Place])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"the offsets {path} cannot be read: {detail}; remove the file to start anew"
        ) from error
