"""From the rows of a file to a split: what is usable, what is left out and why, and splits of our own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import msgspec

from model.data.files import Pictures
from model.data.sample import LeftOut, Sample, Split

SPLITS = ("train", "val", "test")
SEEDED_SPLIT = "90 % train, 5 % val, 5 % test"  # what `seeded_split` gives

_TRAIN_END, _VAL_END = 0.90, 0.95


def usable(
    sample_id: str | int | None,
    image: str,
    caption: str | None,
    *,
    explanation: str | None = None,
    article: str | None = None,
    section: str | None = None,
) -> Sample | LeftOut:
    """Make a sample of a row, or say why it cannot be used.

    Args:
        image: below the data set's folder of pictures; empty where the row names none.
    """
    if sample_id in (None, "") or not image:
        return LeftOut.INCOMPLETE_ROW
    text = (caption or "").strip()
    if not text:
        return LeftOut.EMPTY_CAPTION
    return Sample(str(sample_id), image, text, (explanation or "").strip(), article or "", section or "")


def collect(dataset: str, name: str, pictures: Pictures, rows: Iterable[Sample | LeftOut]) -> Split:
    """Collect the rows of a split; of rows with the same id the first is kept."""
    samples: list[Sample] = []
    left_out: Counter[LeftOut] = Counter()
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, LeftOut):
            left_out[row] += 1
        elif row.id in seen:
            left_out[LeftOut.REPEATED_ID] += 1
        else:
            seen.add(row.id)
            samples.append(row)
    return Split(dataset, name, pictures.path, samples, left_out)


def counts_of(left_out: Counter[LeftOut]) -> str:
    """Rows that are left out by reason, for a person."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())


def other_splits(count: int, file: str) -> str:
    """The note about rows whose split is none of ours."""
    return f"{count} rows of {file} name another split than train, val and test"


def as_stored(split: Split, pictures: Pictures) -> Split:
    """Name the pictures as the tar's members are named, the last step of a reader."""
    if pictures.prefix:
        split.samples[:] = [
            msgspec.structs.replace(sample, image=pictures.prefix + sample.image) for sample in split.samples
        ]
    return split


def seeded_split(group: str) -> str:
    """The split of a group, such as an article, where a data set brings none.

    It depends on the group's name alone: rows that are added later move no other row.
    """
    digest = hashlib.blake2b(group.encode(), digest_size=8, person=b"entityclip-split").digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < _TRAIN_END:
        return "train"
    return "val" if place < _VAL_END else "test"
