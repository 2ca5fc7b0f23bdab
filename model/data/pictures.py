"""Pictures of a data set as they come, and as they are kept: JPEGs of bounded size.

They lie in a folder, or in a tar (also .tar.gz, .tar.bz2, .tar.xz) that is read once from front to back.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path

from PIL import Image

from model.data.files import relative_path
from model.data.near_duplicates import Look, look_of
from model.data.sample import DataError
from model.pictures.decode import ImageLimits, decode

LIMITS = ImageLimits()
_MOST_BYTES_A_PIXEL = 1.0  # a JPEG with more is re-encoded: needless precision, or metadata
_LONGEST_TO_SHORTEST = 16  # a JPEG's side has at most 65,535 pixels
_SHORTEST = 2  # pixels; less is refused when it is read again
_TAR_ERRORS = (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in its source.

    Args:
        name: as samples name it.
        size: bytes.
        modified: time of the last change in the source's own unit; with the size it tells whether the file is
            still the one that was seen before.
        read: gives its bytes, at most one more than `LIMITS.max_bytes`; thread-safe; may raise OSError.
    """

    name: str
    size: int
    modified: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class BoundedPicture:
    """A picture as it is kept.

    Args:
        jpeg: the file.
        digest: of the pixels before they became this JPEG: equal for equal pictures. 16 bytes.
        look: perceptual hash; None for a picture too plain to have one.
    """

    jpeg: bytes
    digest: bytes
    look: Look | None


def find_pictures(images: Path, names: Collection[str]) -> Iterator[PictureFile]:
    """Find the wanted pictures; those that are not there are skipped.

    Args:
        images: a folder, or a tar, of which links are not followed.
        names: paths below the folder, or names of the tar's members, each once.

    Yields:
        In the order of `names` for a folder, in its own order for a tar.

    Raises:
        DataError: there is neither, or the tar is damaged.
    """
    if images.is_dir():
        return _in_folder(images, names)
    if images.is_file():
        return _in_tar(images, set(names))
    raise DataError(f"{images}: the pictures are missing, there is neither a folder nor a tar file")


def source_state(images: Path, names: Collection[str]) -> str:
    """Digest of sizes and times of change: another one means that a picture may have changed."""
    digest = hashlib.sha256()
    if images.is_file():
        status = images.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    else:
        for file in find_pictures(images, names):
            digest.update(f"{file.name}\0{file.size} {file.modified}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _in_folder(folder: Path, names: Collection[str]) -> Iterator[PictureFile]:
    for name in names:
        if relative_path(name) != name:  # it would lead out of the folder
            continue
        path = folder / name
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            yield PictureFile(name, status.st_size, status.st_mtime_ns, partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMITS.max_bytes + 1)


def _in_tar(path: Path, wanted: set[str]) -> Iterator[PictureFile]:
    """The first member of each wanted name."""
    wanted, seen = set(wanted), 0
    try:
        with tarfile.open(path, "r|*") as archive:
            while wanted and (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps a million of them
                seen += 1
                name = relative_path(member.name)
                if not member.isreg() or name not in wanted:
                    continue
                wanted.discard(name)
                file = archive.extractfile(member)
                data = b"" if file is None else file.read(LIMITS.max_bytes + 1)
                yield PictureFile(name, member.size, int(member.mtime), partial(bytes, data))
    except _TAR_ERRORS as exc:
        raise DataError(f"{path}: the tar is damaged behind its member {seen}: {_first_line(exc)}") from exc


def bound_picture(data: bytes, max_side: int, quality: int) -> BoundedPicture:
    """Decode a picture and make the JPEG that is kept of it.

    A JPEG whose shorter side is small enough is kept as it is.

    Args:
        max_side: most pixels of the shorter side.
        quality: of a JPEG that is made anew, 1 to 95.

    Raises:
        ImageError: it is refused, and why.
    """
    image = decode(data, target=max_side, limits=LIMITS)
    size = _bounded_size(image.size, max_side)
    keep = size == image.size and _is_lean_jpeg(data, image)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    digest = hashlib.blake2b(b"%dx%d" % image.size, digest_size=16)
    digest.update(image.tobytes())
    return BoundedPicture(data if keep else _to_jpeg(image, quality), digest.digest(), look_of(image))


def _bounded_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / min(size), max_side * _LONGEST_TO_SHORTEST / max(size))
    if scale == 1.0:
        return size
    return max(_SHORTEST, round(size[0] * scale)), max(_SHORTEST, round(size[1] * scale))


def _is_lean_jpeg(data: bytes, image: Image.Image) -> bool:
    pixels = image.width * image.height
    return data.startswith(b"\xff\xd8") and len(data) <= pixels * _MOST_BYTES_A_PIXEL


def _to_jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.info.clear()  # Pillow would write its comment again
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
