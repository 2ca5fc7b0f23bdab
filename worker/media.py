"""The media store: one bounded JPEG an image, by content hash, in a folder."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from worker.errors import ConfigError

_HASH = re.compile(r"[0-9a-f]{16,128}")


class MediaStore:
    """A folder of thumbnails, shared by any number of processes and threads.

    Args:
        folder: created if need be.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the media store {folder} cannot be used: {error.strerror}") from error

    def put(self, content_hash: str, jpeg: bytes) -> None:
        """Keep a picture; a second one of the same hash changes nothing."""
        path = self._path(content_hash)
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(jpeg)
        Path(part).replace(path)

    def get(self, content_hash: str) -> bytes | None:
        """The picture's JPEG, None if it is not kept."""
        try:
            return self._path(content_hash).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, content_hash: str) -> Path:
        if not _HASH.fullmatch(content_hash):
            raise ValueError(f"no content hash: {content_hash!r}")
        return self._folder / content_hash[:2] / f"{content_hash}.jpg"
