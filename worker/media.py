"""The media store: one bounded JPEG an image, by content hash, in a folder."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from worker.errors import ConfigError, TransientError

_HASH = re.compile(r"[0-9a-f]{16,128}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_OURS = re.compile(r"[0-9a-f]{16,128}\.(jpg|\d+-\d+\.part)")


class MediaStore:
    """A folder of thumbnails, shared by any number of processes and threads.

    Its files can be made anew from the posts, so they are not flushed to the disk; a file that a power cut
    left empty counts as missing.

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

    def put(self, content_hash: str, jpeg: bytes) -> None:
        """Keep a picture; a second one of the same hash only makes the first one young again.

        Raises:
            TransientError: the disk is full or away.
        """
        path = self._path(content_hash)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            if _is_kept(path):
                os.utime(path)
                return
            path.parent.mkdir(exist_ok=True)
            try:
                part.write_bytes(jpeg)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise TransientError(f"the media store {self._folder}: {error.strerror}") from error

    def get(self, content_hash: str) -> bytes | None:
        """The picture's JPEG, None if it is not kept.

        Raises:
            TransientError: the disk is away.
        """
        try:
            return self._path(content_hash).read_bytes() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TransientError(f"the media store {self._folder}: {error.strerror}") from error

    def prune(self, older_than: datetime) -> int:
        """Delete the pictures that were last put before this time; blocks for as long as that takes.

        Returns:
            How many. Files of others in the folder are left alone.

        Raises:
            TransientError: the disk is away, or does not let go of one.
        """
        limit_s = older_than.timestamp()
        deleted = 0
        try:
            for path in self._files():
                if _is_older(path, limit_s):
                    path.unlink(missing_ok=True)
                    deleted += 1
        except OSError as error:
            raise TransientError(f"the media store {self._folder}: {error.strerror}") from error
        return deleted

    def _files(self) -> Iterator[Path]:
        with os.scandir(self._folder) as folders:
            names = [entry.path for entry in folders if _FOLDER.fullmatch(entry.name) and entry.is_dir()]
        for name in names:
            with os.scandir(name) as entries:
                yield from (Path(entry.path) for entry in entries if _OURS.fullmatch(entry.name))

    def _path(self, content_hash: str) -> Path:
        if not _HASH.fullmatch(content_hash):
            raise ValueError(f"no content hash: {content_hash!r}")
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
