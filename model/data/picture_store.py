"""Pictures appended to large files, each different picture once, and a journal from which to go on.

    pictures-00000.bin …   JPEGs end to end, 1 GiB or little more a file
    journal.jsonl          a line a picture of the source: what it is, and where it was put

After a crash the journal holds as far as its lines are whole and speak of bytes that are there; whatever lies
behind that is cut off, in the journal and in the pictures.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from model.data.near_duplicates import Look
from model.data.pictures import BoundedPicture, PictureFile, bound_picture, find_pictures
from model.pictures.decode import ImageError

JOURNAL_NAME = "journal.jsonl"
_SHARD_BYTES = 1 << 30
_AHEAD = 4  # pictures a core that are decoded before they are stored, which bounds the memory
_SYNC_EVERY = 1024  # pictures that a power failure may cost


class StoredPicture(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A picture of the source, and where it lies.

    Args:
        source: number of the folder or tar that it comes from.
        name, size, modified: of `PictureFile`.
        digest: in hexadecimal; two with the same one lie in the same place.
        look: of `BoundedPicture`.
        shard, offset, length: number of the file, and bytes in it.
    """

    source: int
    name: str
    size: int
    modified: int
    digest: str
    look: Look | None
    shard: int
    offset: int
    length: int


def core_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"pictures-{number:05d}.bin"


class PictureStore:
    """Writes one folder; a context manager, for one thread.

    Args:
        folder: it exists, and nobody else writes there.
        settings: on which the stored pictures depend; what was stored under others is thrown away.
        shard_bytes: a shard that has grown to this is closed.
    """

    def __init__(self, folder: Path, settings: str, shard_bytes: int = _SHARD_BYTES) -> None:
        self._folder, self._shard_bytes = folder, shard_bytes
        self._found: dict[tuple[int, str], StoredPicture] = {}
        self._places: dict[str, tuple[int, int, int]] = {}
        self._shard, self._offset, self._unsynced = 0, 0, 0
        self._resume(msgspec.json.encode(settings) + b"\n")
        self._pictures = self._open_shard()

    def __enter__(self) -> PictureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sync()
        self._pictures.close()
        self._journal.close()

    def get(self, source: int, name: str) -> StoredPicture | None:
        """What is known of a picture of the source; None if it was not stored."""
        return self._found.get((source, name))

    def holds(self, source: int, file: PictureFile) -> bool:
        """Whether this very file, unchanged, was stored."""
        found = self._found.get((source, file.name))
        return found is not None and (found.size, found.modified) == (file.size, file.modified)

    def add(self, source: int, file: PictureFile, picture: BoundedPicture) -> None:
        """Store a picture.

        Raises:
            OSError: the disk is full, or the like.
        """
        digest = picture.digest.hex()
        place = self._places.get(digest) or self._append(picture.jpeg)
        stored = StoredPicture(source, file.name, file.size, file.modified, digest, picture.look, *place)
        self._journal.write(msgspec.json.encode(stored) + b"\n")
        self._remember(stored)
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._sync()

    def shard_sizes(self) -> list[int]:
        """Bytes of every shard, in order."""
        return [size for _, size in sorted(self._sizes().items())]

    def source_bytes(self) -> int:
        """Bytes of all stored pictures' files as they came."""
        return sum(picture.size for picture in self._found.values())

    def _append(self, jpeg: bytes) -> tuple[int, int, int]:
        if self._offset >= self._shard_bytes:
            self._sync()
            self._pictures.close()
            self._shard, self._offset = self._shard + 1, 0
            self._pictures = self._open_shard()
        place = (self._shard, self._offset, len(jpeg))
        self._pictures.write(jpeg)
        self._offset += len(jpeg)
        return place

    def _open_shard(self) -> BinaryIO:
        return (self._folder / shard_name(self._shard)).open("ab")

    def _remember(self, stored: StoredPicture) -> None:
        self._found[stored.source, stored.name] = stored
        self._places[stored.digest] = (stored.shard, stored.offset, stored.length)

    def _sync(self) -> None:
        """The pictures first: after a power failure the journal must not know more than they hold."""
        for file in (self._pictures, self._journal):
            file.flush()
            os.fsync(file.fileno())
        self._unsynced = 0

    def _sizes(self) -> dict[int, int]:
        sizes: dict[int, int] = {}
        for shard, offset, length in self._places.values():
            sizes[shard] = max(sizes.get(shard, 0), offset + length)
        return sizes

    def _resume(self, header: bytes) -> None:
        """Take up what a run with the same settings has left, and cut off what is not whole."""
        path = self._folder / JOURNAL_NAME
        whole = self._read_journal(path, header)
        sizes = self._sizes()
        for shard in self._folder.glob("pictures-*.bin"):
            if int(shard.stem.rpartition("-")[2]) not in sizes:
                shard.unlink()
        for number, size in sizes.items():
            os.truncate(self._folder / shard_name(number), size)
        self._shard = max(sizes, default=0)
        self._offset = sizes.get(self._shard, 0)
        self._journal = path.open("ab")
        self._journal.truncate(whole)
        if not whole:
            self._journal.write(header)

    def _read_journal(self, path: Path, header: bytes) -> int:
        """Return how many bytes of the journal hold."""
        if not path.exists():
            return 0
        decoder = msgspec.json.Decoder(StoredPicture)
        sizes = {shard.name: shard.stat().st_size for shard in self._folder.glob("pictures-*.bin")}
        with path.open("rb") as file:
            if file.readline() != header:
                return 0
            whole = len(header)
            for line in file:
                try:
                    stored = decoder.decode(line)
                except msgspec.DecodeError:
                    break
                end = stored.offset + stored.length
                if not line.endswith(b"\n") or end > sizes.get(shard_name(stored.shard), 0):
                    break
                self._remember(stored)
                whole += len(line)
        return whole


def store_pictures(
    store: PictureStore,
    source: int,
    images: Path,
    names: Collection[str],
    *,
    max_side: int,
    quality: int,
    on_picture: Callable[[], object],
) -> dict[str, str]:
    """Decode the pictures of a folder or tar on all cores, and store those that are not stored yet.

    Threads do, Pillow works without the interpreter's lock. The order in the store is the source's.

    Args:
        source: number of the folder or tar in the store.
        on_picture: called for each picture that was found.

    Returns:
        What was wrong with each broken picture, by name. Those that are missing are not mentioned.

    Raises:
        DataError: the folder or tar cannot be read.
        OSError: the store cannot be written.
    """
    broken: dict[str, str] = {}
    waiting: deque[tuple[PictureFile, Future[BoundedPicture | str]]] = deque()

    def finish_one() -> None:
        file, future = waiting.popleft()
        result = future.result()
        if isinstance(result, str):
            broken[file.name] = result
        else:
            store.add(source, file, result)
        on_picture()

    with ThreadPoolExecutor(core_count(), "pictures") as pool:
        for file in find_pictures(images, names):
            if store.holds(source, file):
                on_picture()
                continue
            waiting.append((file, pool.submit(_try_bound, file, max_side, quality)))
            if len(waiting) >= _AHEAD * core_count():
                finish_one()
        while waiting:
            finish_one()
    return broken


def _try_bound(file: PictureFile, max_side: int, quality: int) -> BoundedPicture | str:
    """The bounded picture, or why there is none."""
    try:
        return bound_picture(file.read(), max_side, quality)
    except ImageError as exc:
        return str(exc)
    except OSError as exc:
        return exc.strerror or str(exc)
