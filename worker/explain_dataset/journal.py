"""The output: one JSON line a sample, appended as answers come; the file itself says what is done.

    {"id":"a","image":"imgs/a.jpg","explanation":"A grey-haired man …","status":"generated"}

Each line reaches the operating system before the next answer is awaited, so a killed run loses none, and
the disk within a second. A line that a killed run left torn is cut off on opening.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from worker.errors import ConfigError, TransientError
from worker.store.files import sync_folder
from worker.types import ExplanationStatus

_SYNC_S = 1.0  # at most this long is an answer not on the disk
_BEGINNING: Final = b'{"id":'  # of every line: the struct's first field


class Entry(msgspec.Struct, frozen=True):
    """What became of one sample.

    Args:
        explanation: empty where there is none.
    """

    id: str
    image: str
    explanation: str
    status: ExplanationStatus


_decoder = msgspec.json.Decoder(Entry)


class Journal:
    """The file, held by one run at a time; one thread.

    Args:
        keep: which of the entries that stand in it stay; the others are dropped on opening.

    Attributes:
        done: ids of the entries that stand in it.

    Raises:
        ConfigError: it cannot be written, another run writes it, or it holds something else.
    """

    def __init__(self, path: Path, keep: Callable[[Entry], bool] = lambda entry: True) -> None:
        self._path = path.resolve()  # behind a link the file is replaced, not the link
        self.done: set[str] = set()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(self._path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._read_back(keep)
        except (OSError, ValueError) as error:
            self._file.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"{path} cannot be gone on with: {reason}") from error
        self._synced_at_s = time.monotonic()

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._path

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries of new ids; blocks for the disk about once a second.

        Raises:
            TransientError: nothing of it was written.
        """
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        end = self._file.seek(0, os.SEEK_END)
        try:
            _write(self._file, data)
            if time.monotonic() - self._synced_at_s > _SYNC_S:
                self.sync()
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise TransientError(f"{self._path} cannot be written: {error.strerror}") from error
        self.done.update(entry.id for entry in entries)

    def sync(self) -> None:
        """Wait until the disk has all of it."""
        os.fsync(self._file.fileno())
        self._synced_at_s = time.monotonic()

    def entries(self) -> Iterator[Entry]:
        """All that stand in it, read anew."""
        with self._path.open("rb") as file:
            for line in file:
                yield _decoder.decode(line)

    def find(self, ids: Collection[str]) -> dict[str, Entry]:
        """The entries of these ids."""
        return {entry.id: entry for entry in self.entries() if entry.id in ids} if ids else {}

    def close(self) -> None:
        """Wait for the disk, then let go of the file and its lock."""
        with contextlib.suppress(OSError):  # what the disk refuses now it has refused before
            self.sync()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_back(self, keep: Callable[[Entry], bool]) -> None:
        dropped, end, line = False, 0, b"\n"
        for line, entry in self._lines():
            if entry.id not in self.done and keep(entry):
                self.done.add(entry.id)
            else:
                dropped = True
            end += len(line)
        self._file.truncate(end)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
        if dropped:
            self._rewrite(keep)

    def _lines(self) -> Iterator[tuple[bytes, Entry]]:
        """All but a torn last one, which a killed run left.

        Raises:
            ValueError: a line that no run of ours has written.
        """
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reader:
            for number, line in enumerate(reader, 1):
                if not line.endswith(b"\n") and _is_torn(line):
                    return
                try:
                    yield line, _decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ValueError(f"line {number} is none that `entityclip explain` writes") from error

    def _rewrite(self, keep: Callable[[Entry], bool]) -> None:
        """Drop what is not kept; a crash leaves the old file or the new one."""
        part = self._path.with_name(f"{self._path.name}.part")
        kept: set[str] = set()
        with contextlib.ExitStack() as opened:
            fresh = opened.enter_context(part.open("w+b", buffering=0))
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(os.dup(fresh.fileno()), "wb") as writer:
                for line, entry in self._lines():
                    if entry.id not in kept and keep(entry):
                        kept.add(entry.id)
                        writer.write(line)
            os.fsync(fresh.fileno())
            os.replace(part, self._path)
            opened.pop_all()
        sync_folder(self._path.parent)
        self._file.close()
        self._file = fresh


def _locked(path: Path) -> BinaryIO:
    """The file, held alone: not one that a run which ended meanwhile has replaced."""
    while True:
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError as error:
            file.close()
            raise ConfigError(f"{path} is being written by another run") from error
        except OSError:
            file.close()
            raise
        file.close()


def _is_torn(line: bytes) -> bool:
    """Whether it is the beginning of a line of ours."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line.startswith(_BEGINNING[: len(line)])
    return False


def _write(file: BinaryIO, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += file.write(data[written:]) or 0
