"""Files of a data set: JSON decoded into typed records, paths as they lie below one folder or inside one tar.

All that goes wrong is a `DataError` of one line that names the file and the place in it.
"""

from __future__ import annotations

import tarfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import TypeVar

import msgspec

from model.data.sample import DataError, MissingFile

T = TypeVar("T")

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def read_json(path: Path, record: type[T]) -> T:
    """Decode a whole file. Fields that `record` does not name are skipped without being stored.

    Raises:
        DataError: the file cannot be read, is no JSON, or holds another type somewhere.
    """
    with readable(path):
        data = path.read_bytes()
    try:
        return msgspec.json.decode(data.removeprefix(BOM_UTF8), type=record)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise DataError(f"{path}: {exc}") from exc


def read_json_lines(path: Path, record: type[T]) -> Iterator[tuple[int, T]]:
    """Decode a file line by line; blank lines are skipped.

    Yields:
        (number of the line from 1, the record).

    Raises:
        DataError: as `read_json`, with the number of the line.
    """
    decoder = msgspec.json.Decoder(record)
    for number, line in read_lines(path):
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise DataError(f"{path} line {number}: {exc}") from exc


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, stripped, with their numbers from 1.

    Raises:
        DataError: the file cannot be read.
    """
    with readable(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if stripped := line.removeprefix(BOM_UTF8).strip():
                yield number, stripped


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Map what the operating system says about a file that cannot be read.

    Raises:
        DataError: it said something.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise MissingFile(f"{path}: there is no such file") from exc
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror or exc}") from exc


def relative_path(path: str) -> str:
    r"""A data set's own spelling of a path, as it lies below its folder: `./a//b\c.jpg` -> `a/b/c.jpg`.

    Returns:
        Empty where nothing is left, or where the path leads out of its folder or holds a NUL.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return "" if ".." in parts or "\0" in path else "/".join(parts)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where the pictures of a data set are.

    Args:
        path: a folder or a tar file.
        prefix: what the tar's member names begin with; empty for a folder.
    """

    path: Path
    prefix: str = ""


def find_pictures(root: Path, names: Sequence[str]) -> Pictures:
    """Find the first of these folders below `root`, or a tar of that name beside where it would be.

    A tar's members are named either from the folder (`imgs/1.jpg`) or from inside it (`1.jpg`); which of the
    two is seen from its first file.

    Raises:
        DataError: none of them is there, or the tar cannot be read.
    """
    for name in names:
        if (root / name).is_dir():
            return Pictures(root / name)
        if packed := find_tar(root, name):
            return packed
    wanted = " or ".join(f"{name}/" for name in names)
    raise DataError(f"{root}: the pictures are missing, expected {wanted} (a folder, or a .tar of that name)")


def find_tar(root: Path, name: str) -> Pictures | None:
    """Find `name.tar` below `root`, compressed or not.

    Raises:
        DataError: the tar cannot be read.
    """
    for ending in _TAR_ENDINGS:
        if (tar := root / f"{name}{ending}").is_file():
            return Pictures(tar, _member_prefix(tar, name))
    return None


def _member_prefix(tar: Path, name: str) -> str:
    try:
        with readable(tar), tarfile.open(tar) as archive:
            first = next((member.name for member in archive if member.isfile()), None)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as exc:
        raise DataError(f"{tar}: no tar file, or a damaged one") from exc
    if first is None:
        raise DataError(f"{tar}: the tar holds no file")
    return f"{name}/" if relative_path(first).startswith(f"{name}/") else ""
