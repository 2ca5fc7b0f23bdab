"""The media store, wherever it lies."""

from __future__ import annotations

import errno
import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from worker.config import without_passwords
from worker.errors import ConfigError, TransientError
from worker.media.folder import FolderPictures
from worker.media.remote import RemotePictures
from worker.printable import one_line

_HASH = re.compile(r"[0-9a-f]{16,128}")
_LOCAL = ("file://", "local://")
_NEVER = (PermissionError, FileNotFoundError, NotADirectoryError, NotImplementedError)


class Pictures(Protocol):
    """Where pictures lie: a picture of HASH is `HA/HASH.jpg`. Thread-safe.

    Every call blocks for as long as the disk or the network takes, and raises TransientError where that
    is away or refuses, with what it said as the cause.
    """

    def write(self, content_hash: str, jpeg: bytes) -> None:
        """Keep a picture and make it young, replacing what is not whole."""

    def read(self, content_hash: str) -> bytes | None:
        """The picture as it was written, None if there is none."""

    def delete(self, content_hash: str) -> None:
        """Delete a picture, if there is one."""

    def prune(self, older_than: datetime) -> int:
        """Delete the pictures that were last written before this time; how many."""

    def written_at(self, content_hash: str) -> datetime:
        """When a picture was last written."""


class MediaStore:
    """Thumbnails by content hash, shared by any number of processes and threads.

    They can be made anew from the posts, so a file that a power cut left empty merely counts as missing.

    Args:
        place: a folder, created if need be, or an fsspec URL (`s3://BUCKET/FOLDER`, `file:///FOLDER`).

    Raises:
        ConfigError: the place cannot be used, or the package for its kind of URL is not installed.
        TransientError: a file server that is connected to at once is away.
    """

    def __init__(self, place: Path | str) -> None:
        folder = folder_of(place)
        self._name = without_passwords(str(place))
        self._pictures: Pictures = RemotePictures(str(place)) if folder is None else FolderPictures(folder)

    def put(self, content_hash: str, jpeg: bytes) -> None:
        """Keep a picture; one of the same hash that is kept already becomes young again.

        Blocks for the disk, or for one or two requests.

        Raises:
            TransientError: the disk or the network is full or away.
        """
        self._pictures.write(_checked(content_hash), jpeg)

    def get(self, content_hash: str) -> bytes | None:
        """The picture's JPEG, None if it is not kept.

        Raises:
            TransientError: the disk or the network is away.
        """
        return self._pictures.read(_checked(content_hash)) or None

    def prune(self, older_than: datetime) -> int:
        """Delete the pictures that were last put before this time; blocks for as long as that takes.

        Returns:
            How many. Files of others at that place are left alone.

        Raises:
            TransientError: the disk or the network is away, or does not let go of one.
        """
        return self._pictures.prune(older_than)

    def check(self) -> None:
        """Put, get and delete a picture that no post has; blocks for a few requests.

        Raises:
            ConfigError: that can never work: no permission, no such bucket, or a file system that only reads.
            TransientError: the disk or the network is full or away.
        """
        probe = uuid.uuid4().hex
        try:
            self._pictures.write(probe, b"probe")
            self._pictures.read(probe)
            self._pictures.written_at(probe)
            self._pictures.delete(probe)
        except ValueError as error:  # a bucket's name that can be none is found only now
            raise ConfigError(
                f"the media store {self._name} cannot be used: {one_line(str(error))}"
            ) from error
        except TransientError as error:
            cause = error.__cause__
            if isinstance(cause, _NEVER) or getattr(cause, "errno", None) == errno.EROFS:
                raise ConfigError(str(error)) from cause
            raise


def existing_media(place: Path | str) -> MediaStore | None:
    """The store at this place for one who only reads: a folder that does not exist is not made.

    Raises:
        ConfigError, TransientError: as `MediaStore`.
    """
    folder = folder_of(place)
    return None if folder is not None and not folder.is_dir() else MediaStore(place)


def folder_of(place: Path | str) -> Path | None:
    """The folder that a place is, `~` and `file://` undone; None for a URL of anything else.

    Raises:
        ConfigError: a `file://` URL that is not absolute.
    """
    text = str(place)
    protocol = next((protocol for protocol in _LOCAL if text.startswith(protocol)), None)
    if protocol is not None:
        path = unquote(text.removeprefix(protocol))
        if not path.startswith("/"):
            raise ConfigError(f"the media store {text} is no absolute path: write {protocol}/FOLDER")
        return Path(path)
    return None if "://" in text else Path(text).expanduser()


def _checked(content_hash: str) -> str:
    if not _HASH.fullmatch(content_hash):
        raise ValueError(f"no content hash: {content_hash!r}")
    return content_hash
