"""Pictures at an fsspec URL: an object store such as S3, or a file server.

fsspec's errors, and those of the packages behind it, are mapped here and nowhere else:

    ConfigError      a URL that cannot be one, an unknown file system, a package that is not installed
    TransientError   no connection, no permission, no such bucket, a time limit
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

from worker.config import without_passwords
from worker.errors import ConfigError, TransientError
from worker.printable import one_line

_SHARD = re.compile(r"[0-9a-f]{2}")
_OURS = re.compile(r"[0-9a-f]{16,128}\.jpg")
_CHANGED = ("LastModified", "last_modified", "mtime", "updated", "modified")  # s3, abfs, gcs and sftp, …
_NO_SUCH_NAME = (("botocore.exceptions", "ParamValidationError"),)  # S3 looks at the name only when asked
_FOREIGN = (  # what these packages raise beside OSError; looked up only once they are imported
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("paramiko.ssh_exception", "SSHException"),
    ("requests", "RequestException"),
)
_DETAIL_CHARS = 200


class RemotePictures:
    """Pictures at a URL; the calls are those of `worker.media.store.Pictures`.

    Any number of threads and processes may share it. Credentials and other options come from where the file
    system's own package takes them (for S3: the AWS variables and profile), or from fsspec's configuration.
    An object store replaces a picture as a whole; on a file server, a worker that is killed while it
    writes may leave a truncated one until the picture is put again.

    Args:
        url: `PROTOCOL://BUCKET-OR-HOST/FOLDER`; that must exist, but for the last folder in an object store.

    Raises:
        ConfigError: the URL cannot be used, or its file system's package is not installed.
        TransientError: a file server that is connected to at once is away.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # of no use to those who have a folder

        self._name = without_passwords(url)
        if not url.partition("://")[2].strip("/"):
            raise ConfigError(f"the media store {self._name} names no bucket or folder")
        with self._mapped():
            try:
                self._files, root = fsspec.core.url_to_fs(url)
            except (ImportError, ValueError, TypeError) as error:
                raise ConfigError(f"the media store {self._name} cannot be used: {_line(error)}") from error
        self._root: str = root.rstrip("/")
        # Those that are asynchronous inside bring their own loop; the others promise nothing to threads.
        self._turn: AbstractContextManager[object] = (
            nullcontext() if self._files.async_impl else threading.RLock()
        )

    def write(self, content_hash: str, jpeg: bytes) -> None:
        path = self._path(content_hash)
        with self._mapped(), self._turn:
            try:
                self._files.pipe_file(path, jpeg)
            except FileNotFoundError:  # a file server, whose folders have to be made; never a bucket
                with suppress(FileExistsError):
                    self._files.mkdir(path.rpartition("/")[0], create_parents=False)
                self._files.pipe_file(path, jpeg)

    def read(self, content_hash: str) -> bytes | None:
        with self._mapped(), self._turn:
            try:
                return bytes(self._files.cat_file(self._path(content_hash)))
            except FileNotFoundError:
                return None

    def delete(self, content_hash: str) -> None:
        with self._mapped(), self._turn, suppress(FileNotFoundError):
            self._files.rm_file(self._path(content_hash))

    def prune(self, older_than: datetime) -> int:
        with self._mapped():
            shards = [name for name, entry in self._list(self._root) if entry["type"] == "directory"]
            return sum(self._prune(shard, older_than) for shard in shards if _SHARD.fullmatch(shard))

    def written_at(self, content_hash: str) -> datetime:
        path = self._path(content_hash)
        with self._mapped(), self._turn:
            return self._changed_at(path, self._files.info(path))

    def _prune(self, shard: str, older_than: datetime) -> int:
        """One folder of 256, so that a listing of millions is never held at once."""
        deleted = 0
        for name, entry in self._list(f"{self._root}/{shard}"):
            path = f"{self._root}/{shard}/{name}"
            with self._turn, suppress(FileNotFoundError):  # another worker was faster
                if _OURS.fullmatch(name) and self._changed_at(path, entry) < older_than:
                    self._files.rm_file(path)
                    deleted += 1
        return deleted

    def _list(self, path: str) -> list[tuple[str, dict[str, Any]]]:
        with self._turn, suppress(FileNotFoundError):  # in an object store, a folder without files is none
            self._files.invalidate_cache()
            entries = self._files.ls(path, detail=True)
            return [(entry["name"].rstrip("/").rpartition("/")[2], entry) for entry in entries]
        return []

    def _changed_at(self, path: str, entry: dict[str, Any]) -> datetime:
        found = next((entry[key] for key in _CHANGED if entry.get(key) is not None), None)
        if found is None:
            found = self._files.modified(path)
        if isinstance(found, str):
            found = datetime.fromisoformat(found)
        if isinstance(found, int | float):
            return datetime.fromtimestamp(found, UTC)
        moment: datetime = found
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except _loaded(_NO_SUCH_NAME) as error:
            raise ConfigError(f"the media store {self._name} cannot be used: {_line(error)}") from error
        except _away() as error:
            raise TransientError(f"the media store {self._name}: {_line(error)}") from error

    def _path(self, content_hash: str) -> str:
        return f"{self._root}/{content_hash[:2]}/{content_hash}.jpg"


def _away() -> tuple[type[Exception], ...]:
    """What a file system raises where it cannot be reached, refuses, or is not able to do a thing at all."""
    return (OSError, NotImplementedError, *_loaded(_FOREIGN))


def _loaded(names: Iterable[tuple[str, str]]) -> tuple[type[Exception], ...]:
    """Those of the errors whose packages are imported."""
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)


def _line(error: Exception) -> str:
    return one_line(without_passwords(str(error)) or type(error).__name__, _DETAIL_CHARS)
