"""Opening a prepared data set: its texts, groups and pictures, all of them mapped into memory.

The form on disk stands in `model.data.prepared_form`, how it is made in `model.data.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.picture_store import core_count, shard_name
from model.data.prepared_form import TEXT_NAMES, Texts, read_facts
from model.data.sample import DataError
from model.pictures.decode import ImageError, ResizeMode, decode, resize_for_model


class PictureReader:
    """The stored pictures of a split, decoded. Thread-safe.

    Args:
        folder: for messages.
        shards: memory maps of the files, uint8.
        places: [M, 3] int64.
        max_side: bound of the shorter side that was kept.
    """

    def __init__(
        self, folder: Path, shards: list[NDArray[np.uint8]], places: NDArray[np.int64], max_side: int
    ) -> None:
        self._folder, self._shards, self._places, self._max_side = folder, shards, places, max_side

    def jpeg(self, index: int) -> bytes:
        """The file of a picture."""
        shard, offset, length = (int(number) for number in self._places[index])
        return self._shards[shard][offset : offset + length].tobytes()

    def open(self, index: int, target: int | None = None) -> Image.Image:
        """Decode a picture. RGB.

        Args:
            target: as `model.pictures.decode.decode`.

        Raises:
            DataError: the file was damaged since.
        """
        try:
            return decode(self.jpeg(index), target=target)
        except ImageError as exc:
            raise DataError(f"{self._folder}: its picture {index} is damaged: {exc}") from exc

    def map(
        self,
        image_index: NDArray[np.int64],
        size: int,
        read: Callable[[int, int], NDArray[np.uint8]],
    ) -> NDArray[np.uint8]:
        """Read many pictures on all cores: `read(place in image_index, picture)` gives [size, size, 3].

        Returns:
            [B, size, size, 3] uint8.

        Raises:
            DataError: a picture is damaged, or they were kept smaller than `size`.
        """
        if size > self._max_side:
            raise DataError(
                f"{self._folder} holds pictures of {self._max_side} px at the shorter side and the model "
                f"takes {size}: prepare it again with --max-side {size} or more"
            )
        pixels = np.empty((len(image_index), size, size, 3), np.uint8)

        def fill(row: int) -> None:
            pixels[row] = read(row, int(image_index[row]))

        for _ in _decoders().map(fill, range(len(image_index))):
            pass
        return pixels


@lru_cache(maxsize=1)
def _decoders() -> ThreadPoolExecutor:
    """Threads do: Pillow decodes and resizes without holding the interpreter's lock."""
    return ThreadPoolExecutor(core_count(), "decode")


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """One split of N rows that show M pictures.

    Args:
        ids, captions, explanations, sections: N texts each; empty where there is none.
        image_index: [N] int64, which picture a row shows.
        image_group, text_group: [N] int64; rows equal in either show the same picture (pixel for pixel) or
            have the same caption.
        left_out: rows of the data set that are not here, by reason.
        fingerprint: of the content, 16 hex digits.
    """

    dataset: str
    name: str
    count: int
    image_count: int
    ids: Sequence[str]
    captions: Sequence[str]
    explanations: Sequence[str]
    sections: Sequence[str]
    image_index: NDArray[np.int64]
    image_group: NDArray[np.int64]
    text_group: NDArray[np.int64]
    left_out: dict[str, int]
    fingerprint: str
    pictures: PictureReader

    def pixels(
        self, image_index: NDArray[np.int64], size: int, mode: ResizeMode = "center-crop"
    ) -> NDArray[np.uint8]:
        """Decode pictures as the model takes them, on all cores. Thread-safe.

        Args:
            image_index: [B] int64, numbers below `image_count`.
            size: side of the model's input.

        Returns:
            [B, size, size, 3] uint8 RGB.

        Raises:
            DataError: a picture is damaged, or they were kept smaller than `size`.
        """

        def read(_: int, picture: int) -> NDArray[np.uint8]:
            return resize_for_model(self.pictures.open(picture, target=size), size, mode)

        return self.pictures.map(image_index, size, read)


def open_prepared(folder: Path, split: str) -> PreparedSplit:
    """Open one split of a prepared data set.

    Raises:
        DataError: not a prepared folder, one of a newer program, without that split, or damaged.
    """
    facts = read_facts(folder)
    if split not in facts.splits:
        raise DataError(f"{folder} has no split {split!r}, only {', '.join(facts.splits)}")
    of_split, place = facts.splits[split], folder / split
    columns = {name: _texts(place, name, of_split.rows) for name in TEXT_NAMES}
    image_index = np.array(_array(place, "image_index", (of_split.rows,)))  # torch warns of read-only arrays
    places = _array(place, "places", (of_split.pictures, 3))
    shards = [_shard(folder, number, size) for number, size in enumerate(facts.shards)]
    return PreparedSplit(
        dataset=facts.dataset,
        name=split,
        count=of_split.rows,
        image_count=of_split.pictures,
        image_index=image_index,
        image_group=image_index,
        text_group=np.array(_array(place, "text_group", (of_split.rows,))),
        left_out=dict(of_split.left_out),
        fingerprint=of_split.fingerprint,
        pictures=PictureReader(folder, shards, places, facts.max_side),
        **columns,
    )


def _array(folder: Path, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise DataError(f"{path} is damaged, prepare the data set again: {exc}") from exc
    if shape is not None and array.shape != shape:
        raise DataError(f"{path} is damaged, prepare the data set again: {array.shape} in place of {shape}")
    return array


def _texts(folder: Path, name: str, count: int) -> Texts:
    blob, ends = _array(folder, name), _array(folder, f"{name}-ends", (count,))
    if count and int(ends[-1]) != len(blob):
        raise DataError(f"{folder / name}.npy is damaged, prepare the data set again: its end is missing")
    return Texts(blob, ends)


def _shard(folder: Path, number: int, size: int) -> NDArray[np.uint8]:
    path = folder / shard_name(number)
    try:
        found = path.stat().st_size
        if found == size:
            return np.memmap(path, np.uint8, "r")
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}: prepare the data set again") from exc
    raise DataError(f"{path} is damaged, prepare the data set again: {found} bytes in place of {size}")
