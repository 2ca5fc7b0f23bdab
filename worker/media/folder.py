"""Pictures in a folder of this machine, or of one that is mounted."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from worker.errors import ConfigError, TransientError

_SHARD = re.compile(r"[0-9a-f]{2}")
_OURS = re.compile(r"[0-9a-f]{16,128}\.(jpg|\d+-\d+\.part)")


class FolderPictures:
    """Pictures in a folder, each replaced as a whole; the calls are those of `worker.media.store.Pictures`.

    Any number of threads and processes may share it. Nothing is flushed to the disk.

    Args:
        folder: created if need be.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the media store {folder} cannot be used: {error.strerror}") from error

    def write(self, content_hash: str, jpeg: bytes) -> None:
        path = self._path(content_hash)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        with self._mapped():
            if _is_kept(path):
                os.utime(path)
                return
            path.parent.mkdir(exist_ok=True)
            try:
                part.write_bytes(jpeg)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def read(self, content_hash: str) -> bytes | None:
        with self._mapped():
            try:
                return self._path(content_hash).read_bytes()
            except FileNotFoundError:
                return None

    def delete(self, content_hash: str) -> None:
        with self._mapped():
            self._path(content_hash).unlink(missing_ok=True)

    def prune(self, older_than: datetime) -> int:
        limit_s = older_than.timestamp()
        deleted = 0
        with self._mapped():
            for path in self._files():
                if _is_older(path, limit_s):
                    path.unlink(missing_ok=True)
                    deleted += 1
        return deleted

    def written_at(self, content_hash: str) -> datetime:
        with self._mapped():
            return datetime.fromtimestamp(self._path(content_hash).stat().st_mtime, UTC)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(f"the media store {self._folder}: {error.strerror}") from error

    def _files(self) -> Iterator[Path]:
        with os.scandir(self._folder) as folders:
            names = [entry.path for entry in folders if _SHARD.fullmatch(entry.name) and entry.is_dir()]
        for name in names:
            with os.scandir(name) as entries:
                yield from (Path(entry.path) for entry in entries if _OURS.fullmatch(entry.name))

    def _path(self, content_hash: str) -> Path:
        return self._folder / content_hash[:2] / f"{content_hash}.jpg"


def _is_older(path: Path, limit_s: float) -> bool:
    try:
        return path.stat().st_mtime < limit_s
    except FileNotFoundError:  # another worker was faster
        return False


def _is_kept(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
