"""The media store: one bounded JPEG an image, by content hash, in a folder."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

from worker.errors import ConfigError, TransientError

_HASH = re.compile(r"[0-9a-f]{16,128}")


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
        """Keep a picture; a second one of the same hash changes nothing.

        Raises:
            TransientError: the disk is full or away.
        """
        path = self._path(content_hash)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            if _is_kept(path):
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

    def _path(self, content_hash: str) -> Path:
        if not _HASH.fullmatch(content_hash):
            raise ValueError(f"no content hash: {content_hash!r}")
        return self._folder / content_hash[:2] / f"{content_hash}.jpg"


def _is_kept(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
