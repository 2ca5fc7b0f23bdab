"""From a data set as it was published to its prepared form (`model.data.prepared_form`), once.

Pictures are decoded by all cores and stored as they come; a run that was interrupted leaves `OUTPUT.part`,
from which the same command goes on. The folder gets its name when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from tqdm import tqdm

from model.data.explanations import apply_to_splits
from model.data.picture_store import JOURNAL_NAME, PictureStore, store_pictures
from model.data.pictures import source_state
from model.data.prepared_form import (
    FACTS_NAME,
    FORMAT_VERSION,
    PreparedFacts,
    SplitFacts,
    part_of,
    read_facts,
    write_facts,
    write_split,
)
from model.data.readers import SPLITS, read_splits
from model.data.rows import counts_of
from model.data.sample import DataError, Split
from model.data.selection import SelectedRows, select_rows, settle_near_duplicates

_LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a data set is prepared.

    Args:
        splits: which ones.
        max_side: bound of the pictures' shorter side, pixels; at least the model's input.
        quality: of JPEGs that are made anew. On photographs, what a 224 px model sees is the original's to
            41 dB (PSNR) at 384 and 90, to 32 dB at 256 and 85 for 40 % of the bytes.
        explanations: a file of explanations in place of the data set's own.
        near_duplicates: what becomes of train's pictures that are, nearly, also in val or test: `drop` or
            `keep`.
    """

    splits: tuple[str, ...] = SPLITS
    max_side: int = 384
    quality: int = 90
    explanations: Path | None = None
    near_duplicates: str = "drop"

    def __post_init__(self) -> None:
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise DataError(f"splits are {', '.join(SPLITS)}, not {', '.join(self.splits) or 'none'}")
        if self.near_duplicates not in ("drop", "keep"):
            raise DataError(f"near_duplicates is drop or keep, not {self.near_duplicates!r}")
        if not (16 <= self.max_side <= 4096 and 1 <= self.quality <= 95):
            raise DataError("max_side goes from 16 to 4096 and quality from 1 to 95")


def prepare(spec: str, output: Path, options: PrepareOptions | None = None) -> PreparedFacts:
    """Prepare a data set.

    Args:
        spec: `KIND:PATH`, see `model.data.readers`.
        output: a folder that is not there yet, or the result of the same call before.

    Returns:
        What was made, as it stands in `prepared.json`.

    Raises:
        DataError: the data set cannot be read, none of a split's rows can be used, the folder holds something
            else, or another process is at it.
        OSError: it cannot be written.
    """
    options = options or PrepareOptions()
    splits = _read_splits(spec, options)
    return _prepare(splits, output, options, _source(splits, options), wait=False)


def resolve_prepared(data: str, cache: Path, options: PrepareOptions | None = None) -> Path:
    """Find the prepared form of what a person names; several processes may ask at once.

    Args:
        data: a prepared folder, or `KIND:PATH`, which is prepared once into `cache` and found there until the
            data set changes.
        options: for a data set that has to be prepared.

    Raises:
        DataError: as `prepare`, or it is neither.
    """
    if ":" not in data or (Path(data) / FACTS_NAME).exists():
        read_facts(Path(data))
        return Path(data)
    options = options or PrepareOptions()
    splits = _read_splits(data, options)
    source = _source(splits, options)
    folder = cache / "prepared" / source
    _prepare(splits, folder, options, source, wait=True)
    return folder


def _read_splits(spec: str, options: PrepareOptions) -> list[Split]:
    splits = read_splits(spec, options.splits)
    return splits if options.explanations is None else apply_to_splits(splits, options.explanations)


def _source(splits: Sequence[Split], options: PrepareOptions) -> str:
    """Digest of everything the result depends on: rows, options, sizes and times of the pictures' files."""
    shaping = (FORMAT_VERSION, options.max_side, options.quality, options.near_duplicates)
    digest = hashlib.sha256(repr(shaping).encode())
    for split in splits:
        digest.update(f"{split.dataset} {split.name} {sorted(split.left_out.items())}".encode())
        for sample in split.samples:
            digest.update(msgspec.msgpack.encode(sample))
    for images, names in _wanted(splits).items():
        digest.update(source_state(images, names).encode())
    return digest.hexdigest()[:16]


def _wanted(splits: Sequence[Split]) -> dict[Path, dict[str, None]]:
    """The pictures' names below each folder or tar, in the order of the rows."""
    wanted: dict[Path, dict[str, None]] = {}
    for split in splits:
        wanted.setdefault(split.images, {}).update((sample.image, None) for sample in split.samples)
    return wanted


def _prepare(
    splits: list[Split], output: Path, options: PrepareOptions, source: str, *, wait: bool
) -> PreparedFacts:
    if (found := _finished(output, source)) is not None:
        return found
    part = part_of(output)
    part.mkdir(parents=True, exist_ok=True)
    with _locked(part, wait=wait):
        if (found := _finished(output, source)) is not None:  # another process made it meanwhile
            (part / _LOCK_NAME).unlink(missing_ok=True)
            with suppress(OSError):
                part.rmdir()
            return found
        facts = _write(splits, part, options, source)
        for name in (JOURNAL_NAME, _LOCK_NAME):
            (part / name).unlink()
        part.rename(output)
    return facts


def _finished(output: Path, source: str) -> PreparedFacts | None:
    """What a folder holds, if it is the same; None if there is nothing yet.

    Raises:
        DataError: it holds something else.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / FACTS_NAME).exists():
        raise DataError(f"{output} is there and no prepared data set: give another folder")
    facts = read_facts(output)
    if facts.source != source:
        raise DataError(
            f"{output} was prepared from another data set, from other files or with other options: "
            "remove it or give another folder"
        )
    return facts


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    with (folder / _LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as exc:
            raise DataError(f"{folder}: another process is writing there") from exc
        yield


def _write(splits: list[Split], part: Path, options: PrepareOptions, source: str) -> PreparedFacts:
    wanted = list(_wanted(splits).items())
    settings = (
        f"{FORMAT_VERSION} {options.max_side} {options.quality} {[str(images) for images, _ in wanted]}"
    )
    broken: dict[Path, dict[str, str]] = {}
    with PictureStore(part, settings) as store:
        total = sum(len(names) for _, names in wanted)
        with tqdm(total=total, desc="pictures", unit="picture", disable=None, leave=False) as progress:
            for number, (images, names) in enumerate(wanted):
                broken[images] = store_pictures(
                    store,
                    number,
                    images,
                    names,
                    max_side=options.max_side,
                    quality=options.quality,
                    on_picture=progress.update,
                )
        numbers = {images: number for number, (images, _) in enumerate(wanted)}
        selected = [
            select_rows(split, partial(store.get, numbers[split.images]), broken[split.images])
            for split in splits
        ]
        shards, source_bytes = store.shard_sizes(), store.source_bytes()
    _settle(selected, options)
    facts = PreparedFacts(
        format_version=FORMAT_VERSION,
        dataset=splits[0].dataset,
        source=source,
        max_side=options.max_side,
        quality=options.quality,
        near_duplicates=options.near_duplicates,
        source_bytes=source_bytes,
        shards=shards,
        splits={rows.split.name: _write_rows(rows, part, options.quality) for rows in selected},
    )
    write_facts(part, facts)
    return facts


def _settle(selected: list[SelectedRows], options: PrepareOptions) -> None:
    """Near-duplicates, and the end of it where a split that had rows has none any more."""
    by_name = {rows.split.name: rows for rows in selected}
    if (train := by_name.pop("train", None)) is not None:
        settle_near_duplicates(train, list(by_name.values()), drop=options.near_duplicates == "drop")
    for rows in selected:
        if rows.split.samples and not rows.samples:
            raise DataError(
                f"{rows.split.dataset} {rows.split.name}: none of its rows can be used "
                f"({counts_of(rows.left_out)}); pictures were sought in {rows.split.images}, "
                f"e.g. {rows.examples[0]}"
            )


def _write_rows(rows: SelectedRows, part: Path, quality: int) -> SplitFacts:
    pictures, fingerprint = write_split(part / rows.split.name, rows.samples, rows.shown, quality)
    return SplitFacts(
        read=len(rows.samples) + rows.left_out.total(),
        rows=len(rows.samples),
        pictures=pictures,
        explained=sum(bool(sample.explanation) for sample in rows.samples),
        left_out={str(reason): count for reason, count in sorted(rows.left_out.items()) if count},
        near_duplicates=rows.near_duplicates,
        examples=rows.examples,
        notes=rows.split.notes,
        fingerprint=fingerprint,
    )
