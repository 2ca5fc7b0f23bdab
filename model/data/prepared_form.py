"""A prepared data set on disk: every picture decoded once and bounded, texts and groups ready to be mapped.

DIR/prepared.json           facts and counts; moved into place with the folder, so it never names half a set
DIR/pictures-00000.bin …    JPEGs end to end, each different picture once, for all splits
DIR/<split>/
    ids, captions, explanations, sections    .npy: UTF-8 end to end; -ends.npy: [N] int64, where each ends
    image_index.npy     [N] int64, the picture of a row
    text_group.npy      [N] int64, equal for captions that are equal once they are cleaned
    digests.npy         [M, 16] uint8, equal for pictures of equal pixels
    places.npy          [M, 3] int64, the picture's file, its first byte there and its length

Everything is memory-mapped: a million rows cost no memory until they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.data.picture_store import JOURNAL_NAME, StoredPicture
from model.data.sample import DataError, Sample
from model.tokenizer import clean

FACTS_NAME = "prepared.json"
FORMAT_VERSION = 1
TEXT_NAMES = ("ids", "captions", "explanations", "sections")
_CONTENT = (*TEXT_NAMES, *(f"{name}-ends" for name in TEXT_NAMES), "image_index", "text_group", "digests")


class SplitFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of the rows of one split.

    Args:
        read: rows of the data set; `rows` of them are used, the others are counted in `left_out` by reason.
        pictures: different pictures that they show.
        explained: rows with an explanation.
        near_duplicates: pictures of train that are also in val or test, or nearly; whether they were dropped
            stands in `PreparedFacts`.
        examples: a few of what was left out, one line each.
        notes: what the reader has to say.
        fingerprint: of texts, pictures and groups, 16 hex digits.
    """

    read: int
    rows: int
    pictures: int
    explained: int
    left_out: dict[str, int]
    near_duplicates: int
    examples: list[str]
    notes: list[str]
    fingerprint: str


class PreparedFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`prepared.json`.

    Args:
        source: digest of what it was made from, and how.
        max_side: bound of the shorter side, pixels; `quality` of the JPEGs that were made anew.
        near_duplicates: `drop` or `keep`.
        source_bytes: of the pictures' files as they came.
        shards: bytes of every `pictures-*.bin`.
    """

    format_version: int
    dataset: str
    source: str
    max_side: int
    quality: int
    near_duplicates: str
    source_bytes: int
    shards: list[int]
    splits: dict[str, SplitFacts]


class _Version(msgspec.Struct):
    format_version: int


class Texts(Sequence[str]):
    """Texts in a memory-mapped blob, decoded when they are asked for.

    Args:
        blob: [bytes] uint8, UTF-8.
        ends: [N] int64, where each text ends.
    """

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._blob, self._ends = blob.view(np.ndarray), ends.view(np.ndarray)  # memmap's own slices are slow

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = int(self._ends[place - 1]) if place else 0
        return self._blob[start : int(self._ends[place])].tobytes().decode()


def read_facts(folder: Path) -> PreparedFacts:
    """Read `prepared.json`.

    Raises:
        DataError: it is missing, broken, or of a newer format.
    """
    path = folder / FACTS_NAME
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Version).format_version
        if version == FORMAT_VERSION:
            return msgspec.json.decode(data, type=PreparedFacts)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise DataError(f"{folder} {_what_is_at(folder)}") from exc
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: {exc}") from exc
    raise DataError(f"{path}: this program knows format {FORMAT_VERSION}, not {version}: prepare it again")


def part_of(folder: Path) -> Path:
    """Where a prepared folder is made before it gets its name."""
    return folder.with_name(f"{folder.name}.part")


def _what_is_at(folder: Path) -> str:
    """What a folder without `prepared.json` is, for a person."""
    if (folder / JOURNAL_NAME).exists() or (folder.name and part_of(folder).exists()):
        return "is not finished: run the same entityclip prepare again"
    return "is no prepared data set (entityclip prepare makes one)" if folder.exists() else "is not there"


def write_facts(folder: Path, facts: PreparedFacts) -> None:
    """Write `prepared.json`."""
    encoded = msgspec.json.encode(facts)
    (folder / FACTS_NAME).write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


def write_split(
    folder: Path, samples: Sequence[Sample], shown: Sequence[StoredPicture], quality: int
) -> tuple[int, str]:
    """Write the arrays of a split.

    Args:
        folder: it is made if need be.
        samples: N rows.
        shown: the picture of each.
        quality: of the JPEGs, for the fingerprint: all else that shapes them is in their digests.

    Returns:
        M, how many different pictures there are, and the fingerprint.
    """
    folder.mkdir(exist_ok=True)
    pictures = {picture.digest: picture for picture in shown}  # in the order of the rows that show them first
    number = {digest: index for index, digest in enumerate(pictures)}
    _write_texts(folder, "ids", (sample.id for sample in samples))
    _write_texts(folder, "captions", (sample.caption for sample in samples))
    _write_texts(folder, "explanations", (sample.explanation for sample in samples))
    _write_texts(folder, "sections", (sample.section for sample in samples))
    digests = b"".join(bytes.fromhex(digest) for digest in pictures)
    places = [(picture.shard, picture.offset, picture.length) for picture in pictures.values()]
    arrays: dict[str, NDArray[Any]] = {
        "image_index": np.array([number[picture.digest] for picture in shown], np.int64),
        "text_group": _groups(clean(sample.caption) for sample in samples),
        "digests": np.frombuffer(digests, np.uint8).reshape(-1, 16),
        "places": np.array(places, np.int64).reshape(-1, 3),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return len(pictures), _fingerprint(folder, quality)


def _write_texts(folder: Path, name: str, texts: Iterable[str]) -> None:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    np.save(folder / f"{name}.npy", np.frombuffer(b"".join(encoded), np.uint8))
    np.save(folder / f"{name}-ends.npy", np.cumsum([len(text) for text in encoded], dtype=np.int64))


def _groups(keys: Iterable[str]) -> NDArray[np.int64]:
    """Number equal keys alike, in the order in which they come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _fingerprint(folder: Path, quality: int) -> str:
    digest = hashlib.sha256(b"%d %d" % (FORMAT_VERSION, quality))
    for name in _CONTENT:
        with (folder / f"{name}.npy").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
