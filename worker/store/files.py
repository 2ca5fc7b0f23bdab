"""What lies in an embedded store's folder, and the file locks that decide who may do what.

format.json    which engine wrote the folder
aliases.json   alias -> collection, replaced atomically
collections/   one folder per collection
address.json   process id and socket of the child that serves the folder
store.log      what the child wrote to standard error, bounded
clients.lock   shared: held by every client while it is open; exclusive: the child, when it leaves
spawn.lock     exclusive: whoever looks for, or starts, the child
store.lock     exclusive: the child, taken before it loads the engine
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_POLL_S = 0.02
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """The paths inside one store's folder."""

    root: Path

    @property
    def format(self) -> Path:
        return self.root / "format.json"

    @property
    def aliases(self) -> Path:
        return self.root / "aliases.json"

    @property
    def collections(self) -> Path:
        return self.root / "collections"

    @property
    def address(self) -> Path:
        return self.root / "address.json"

    @property
    def log(self) -> Path:
        return self.root / "store.log"

    @property
    def clients_lock(self) -> Path:
        return self.root / "clients.lock"

    @property
    def spawn_lock(self) -> Path:
        return self.root / "spawn.lock"

    @property
    def store_lock(self) -> Path:
        return self.root / "store.lock"

    def is_store(self) -> bool:
        """Whether a store was ever made here (perhaps by a process that is still making it)."""
        return self.format.exists() or self.clients_lock.exists()


class FileLock:
    """An advisory lock (flock) on a file; the kernel releases it when the process dies.

    Each object has its own open file, so two objects in one process exclude each other too.
    The descriptor is not inherited by programs that the process starts, unless that is asked for.
    Not for concurrent use by several threads.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def wait_shared(self, timeout_s: float) -> bool:
        return self._wait(fcntl.LOCK_SH, timeout_s)

    def wait_exclusive(self, timeout_s: float) -> bool:
        return self._wait(fcntl.LOCK_EX, timeout_s)

    def share_with_children(self) -> None:
        """Let programs started with `close_fds=False` hold the lock too, until the last of them is gone."""
        os.set_inheritable(self._descriptor, True)

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release and forget; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self, kind: int, timeout_s: float) -> bool:
        # flock() itself has no timeout, and an alarm signal belongs to the main thread only.
        deadline = time.monotonic() + timeout_s
        while not self._try(kind):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def replace_json(path: Path, content: object) -> None:
    """Write a JSON file so that a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable; file systems that cannot are left as they are."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_folder(source: Path, target: Path, stop: threading.Event) -> bool:
    """Copy a folder's files, without their holes; False if `stop` was set before the end.

    Raises:
        OSError: no room, or another failure of the disk; what was copied is left there.
    """
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        for name in names:
            if not _copy_file(Path(folder, name), place / name, stop):
                return False
    return True


def _copy_file(source: Path, target: Path, stop: threading.Event) -> bool:
    with open(source, "rb", buffering=0) as read, open(target, "xb", buffering=0) as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        start = _data_from(read.fileno(), 0, size)
        while start < size and not stop.is_set():
            end = min(os.lseek(read.fileno(), start, os.SEEK_HOLE), start + _CHUNK_BYTES)
            chunk = os.pread(read.fileno(), end - start, start)
            start += os.pwrite(written.fileno(), chunk, start)
            start = _data_from(read.fileno(), start, size)
    return not stop.is_set()


def _data_from(descriptor: int, offset: int, size: int) -> int:
    """Where the next bytes after a hole stand; the size if there are none."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size
