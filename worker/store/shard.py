"""One shard of the engine, the locks around it, and its exchange for one with search graphs.

    shard-2/     what is served        <- writes, flushed before they are acknowledged
    shard-3/     its copy, being built <- the same writes, kept in memory until the copy is ready
    shard.json   which of them is current; without it the folder `shard` is

Every engine call holds the GIL for as long as it runs, so calls from several threads take turns, and
none may be long: what is long runs in a process of its own, on the copy (`worker.store.graphs`).
A crash leaves the old shard or the whole new one; both hold every acknowledged write.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import qdrant_edge as edge

from worker.store.files import copy_folder, replace_json, sync_folder

T = TypeVar("T")
JOURNAL_BYTES = 256 << 20  # of writes kept while graphs are built
SMALL_BYTES = 4 << 10  # a write without vectors
_FIRST = "shard"
_NAMES = re.compile(r"shard(-[0-9]+)?")
_POINTER = "shard.json"
_LAST_WRITES = 100  # applied to the copy while other writers wait
_POLL_S = 0.005


class EngineError(Exception):
    """The engine failed on a request that passed our checks.

    Args:
        while_writing: the shard may be behind what it logged; only a reload makes it sound again.
    """

    def __init__(self, message: str, *, while_writing: bool) -> None:
        super().__init__(message)
        self.while_writing = while_writing


class JournalFull(Exception):
    """More was written while graphs were built than is kept in memory."""


class Stopped(Exception):
    """The caller's `stop` was set."""


@dataclass(eq=False, slots=True)
class _Open:
    """An engine that is open in a folder, and how many reads are under way on it."""

    engine: edge.EdgeShard
    folder: Path
    readers: int = 0


class Shard:
    """Thread-safe. A write returns once it is flushed to disk; writers that overlap share one flush."""

    def __init__(self, collection: Path, opened: _Open) -> None:
        self.collection = collection
        self._open = opened
        self._apply_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._readers_lock = threading.Lock()
        self._applied = 0
        self._flushed = 0
        self._journal: list[edge.UpdateOperation] | None = None
        self._journal_bytes = 0
        self._is_lost = False  # it is unknown which shard the next process opens

    @classmethod
    def create(cls, collection: Path, config: edge.EdgeConfig) -> None:
        """Make an empty shard in the collection's folder, and close it.

        Raises:
            EngineError: the engine cannot write there.
        """
        engine = engine_call(
            lambda: edge.EdgeShard.create(str(collection / _FIRST), config), while_writing=True
        )
        engine_call(engine.flush, while_writing=True)
        engine.close()

    @classmethod
    def load(cls, collection: Path) -> Shard:
        """Open the current shard, and delete what a crash left of others.

        Raises:
            OSError, ValueError: files are missing or damaged.
            EngineError: the engine cannot read it.
        """
        folder = _current(collection)
        engine = _load(folder)  # before anything is deleted
        sync_folder(collection)  # before the others go: the pointer must outlast a power cut
        for other in collection.iterdir():
            if _NAMES.fullmatch(other.name) and other != folder:
                shutil.rmtree(other)
        return cls(collection, _Open(engine, folder))

    def close(self) -> None:
        """Flush and close; the shard is unusable afterwards. Waits for reads that are under way."""
        with self._apply_lock, self._flush_lock:
            engine_call(self._open.engine.flush, while_writing=True)
            self._retire(self._open)

    def read(self, call: Callable[[edge.EdgeShard], T]) -> T:
        """Give what a call of the engine answers.

        Raises:
            EngineError: it failed, or the shard is closed.
        """
        with self._readers_lock:
            opened = self._open
            opened.readers += 1
        try:
            return engine_call(lambda: call(opened.engine), while_writing=False)
        finally:
            with self._readers_lock:
                opened.readers -= 1

    def write(self, operation: edge.UpdateOperation, size: Callable[[], int] = lambda: SMALL_BYTES) -> int:
        """Apply and flush; give the number of the operation.

        Args:
            size: about how many bytes the operation takes in memory; asked only where it is kept.
        """
        number = self.apply(operation, size)
        self._flush(number)
        return number

    def apply(self, operation: edge.UpdateOperation, size: Callable[[], int] = lambda: SMALL_BYTES) -> int:
        """Apply without a flush of its own; the next one covers it."""
        with self._apply_lock:
            self._check_known()
            engine_call(lambda: self._open.engine.update(operation), while_writing=True)
            self._applied += 1
            if self._journal is not None:
                self._record(operation, size())
            return self._applied

    def _record(self, operation: edge.UpdateOperation, bytes_: int) -> None:
        assert self._journal is not None
        self._journal_bytes += bytes_
        if self._journal_bytes > JOURNAL_BYTES:
            self._journal.clear()  # whoever builds finds out from `check_journal`
        else:
            self._journal.append(operation)

    def _check_known(self) -> None:
        if self._is_lost:
            raise EngineError("it is unknown which shard is current", while_writing=True)

    def _flush(self, number: int) -> None:
        with self._flush_lock:
            if self._flushed >= number:
                return  # a flush that began after our update has covered it
            self._check_known()
            reached = self._applied
            engine_call(self._open.engine.flush, while_writing=True)
            self._flushed = reached

    # -- the exchange -------------------------------------------------------------------------

    def bytes_on_disk(self) -> int:
        """What the shard's files take."""
        return sum(path.lstat().st_blocks * 512 for path in self._open.folder.rglob("*"))

    def next_folder(self) -> Path:
        """Where the next copy goes."""
        number = int(self._open.folder.name.partition("-")[2] or 0) + 1
        return self.collection / f"{_FIRST}-{number}"

    def begin_copy(self, target: Path, stop: threading.Event) -> None:
        """Copy the shard to a new folder and keep what is written from then on.

        Writes wait meanwhile, reads do not. One copy at a time; `end_copy` must follow.

        Raises:
            Stopped: `stop` was set.
            OSError: no room, or another failure of the disk.
            EngineError: flushing failed.
        """
        with self._apply_lock, self._flush_lock:
            self.check_copy(stop)
            engine_call(self._open.engine.flush, while_writing=True)
            self._flushed = self._applied
            shutil.rmtree(target, ignore_errors=True)
            if not copy_folder(self._open.folder, target, stop):
                raise Stopped
            self._journal, self._journal_bytes = [], 0

    def check_copy(self, stop: threading.Event) -> None:
        """Whether it is worth going on with the copy.

        Raises:
            Stopped: `stop` was set.
            JournalFull: not all writes since the copy are kept.
        """
        if stop.is_set():
            raise Stopped
        if self._journal_bytes > JOURNAL_BYTES:
            raise JournalFull(f"more than {JOURNAL_BYTES >> 20} MiB were written meanwhile")

    def adopt(self, target: Path, stop: threading.Event) -> None:
        """Bring the copy up to date and serve it in place of the shard, which is deleted.

        Other writes wait for the last of it only, reads for one call of the engine at a time.

        Raises:
            EngineError: the copy cannot be used; where `while_writing`, it is unknown which is current.
            Stopped, JournalFull, OSError: as above; the shard is served as before.
        """
        new = _Open(_load(target), target)
        try:
            while self._replay(new.engine, self._take(_LAST_WRITES)):
                self.check_copy(stop)
            engine_call(new.engine.flush, while_writing=False)
            with self._apply_lock, self._flush_lock:
                self.check_copy(stop)
                old = self._exchange(new)
        except BaseException:
            with contextlib.suppress(EngineError):  # what went wrong first is told
                engine_call(new.engine.close, while_writing=False)
            raise
        self._retire(old)
        _delete(old.folder)

    def end_copy(self) -> None:
        """Forget the writes that were kept."""
        with self._apply_lock:
            self._journal, self._journal_bytes = None, 0

    def discard(self, target: Path) -> None:
        """Delete a copy that is not to be used."""
        if target != self._open.folder and self._serves_current():
            _delete(target)

    def _serves_current(self) -> bool:
        """Whether the next process opens what this one serves; False where that cannot be told."""
        try:
            return _current(self.collection) == self._open.folder
        except (OSError, ValueError):
            return False

    def _take(self, leave: int) -> list[edge.UpdateOperation]:
        # What is left is little, so the writers that wait for it do not wait long.
        with self._apply_lock:
            taken = self._journal or []
            if len(taken) <= leave:
                return []
            self._journal, self._journal_bytes = [], 0
            return taken

    def _replay(self, engine: edge.EdgeShard, operations: list[edge.UpdateOperation]) -> bool:
        for operation in operations:
            engine_call(partial(engine.update, operation), while_writing=False)
        return bool(operations)

    def _exchange(self, new: _Open) -> _Open:
        self._replay(new.engine, self._journal or [])
        engine_call(new.engine.flush, while_writing=False)
        try:
            replace_json(self.collection / _POINTER, {"shard": new.folder.name})
        except OSError as error:
            if self._serves_current():
                raise
            self._is_lost = True
            raise EngineError(f"{self.collection / _POINTER}: {error}", while_writing=True) from error
        with self._readers_lock:
            old, self._open = self._open, new
        self._journal, self._journal_bytes = None, 0
        self._flushed = self._applied
        return old

    def _retire(self, opened: _Open) -> None:
        while opened.readers:
            time.sleep(_POLL_S)
        engine_call(opened.engine.close, while_writing=True)


def engine_call(call: Callable[[], T], *, while_writing: bool) -> T:
    """Call the engine, which raises bare Exceptions, and whose panics arrive as BaseExceptions.

    Raises:
        EngineError: in place of any of them.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise EngineError(str(error) or type(error).__name__, while_writing=while_writing) from error


def _load(folder: Path) -> edge.EdgeShard:
    return engine_call(lambda: edge.EdgeShard.load(str(folder)), while_writing=False)


def _current(collection: Path) -> Path:
    pointer = collection / _POINTER
    if not pointer.exists():
        return collection / _FIRST
    content = json.loads(pointer.read_bytes())
    name = content.get("shard") if isinstance(content, dict) else None
    if not isinstance(name, str) or not _NAMES.fullmatch(name):
        raise ValueError(f"{pointer}: names no shard")
    return collection / name


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what is left is swept at the next start
