"""Which rows of a data set remain once its pictures have been opened, and why the others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.data.near_duplicates import Looks, nearest_looks
from model.data.picture_store import StoredPicture
from model.data.sample import LeftOut, Sample, Split

_MOST_EXAMPLES = 3  # of each reason


@dataclass(slots=True)
class SelectedRows:
    """The rows of a split that are used.

    Args:
        split: as the reader gave it.
        samples, shown: N rows, and the picture of each.
        left_out: all rows that are not used, the reader's among them, by reason.
        near_duplicates: how many pictures of train are also, nearly, in another split.
        examples: a few of what was left out, one line each.
    """

    split: Split
    samples: list[Sample]
    shown: list[StoredPicture]
    left_out: Counter[LeftOut]
    near_duplicates: int = 0
    examples: list[str] = field(default_factory=list)

    def leave_out(self, reason: LeftOut, sample: Sample, detail: str = "") -> None:
        """Count a row that is not used, and name the first few."""
        self.left_out[reason] += 1
        if sum(line.startswith(reason) for line in self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{reason}: {sample.image}{f' ({detail})' if detail else ''}")


def select_rows(
    split: Split, find: Callable[[str], StoredPicture | None], broken: Mapping[str, str]
) -> SelectedRows:
    """Keep the rows whose picture was stored.

    Args:
        find: gives the stored picture of a name.
        broken: what was wrong with a picture, by name; what is in neither was missing.
    """
    rows = SelectedRows(split, [], [], Counter(split.left_out))
    for sample in split.samples:
        picture = find(sample.image)
        if picture is not None:
            rows.samples.append(sample)
            rows.shown.append(picture)
        elif sample.image in broken:
            rows.leave_out(LeftOut.BROKEN_IMAGE, sample, broken[sample.image])
        else:
            rows.leave_out(LeftOut.MISSING_IMAGE, sample)
    return rows


def settle_near_duplicates(train: SelectedRows, held_out: Sequence[SelectedRows], *, drop: bool) -> None:
    """Count the pictures of train that are, nearly, also held out, and take their rows out if asked to."""
    twins = _twins(train.shown, [picture for rows in held_out for picture in rows.shown])
    train.near_duplicates = len(twins)
    if not twins or not drop:
        return
    samples, shown = train.samples, train.shown
    train.samples, train.shown = [], []
    for sample, picture in zip(samples, shown, strict=True):
        if picture.digest in twins:
            train.leave_out(LeftOut.NEAR_DUPLICATE, sample, f"as held-out {twins[picture.digest]}")
        else:
            train.samples.append(sample)
            train.shown.append(picture)


def _twins(train: Sequence[StoredPicture], held_out: Sequence[StoredPicture]) -> dict[str, str]:
    """Name of a held-out picture that looks the same, by the digest of train's."""
    held = {picture.digest: picture for picture in held_out}
    unique = {picture.digest: picture for picture in train}
    twins = {digest: held[digest].name for digest in unique if digest in held}
    searched = [picture for picture in unique.values() if picture.look is not None]
    index = [picture for picture in held.values() if picture.look is not None]
    found = nearest_looks(_looks(searched), _looks(index))
    for picture, row in zip(searched, found.tolist(), strict=True):
        if row >= 0:
            twins.setdefault(picture.digest, index[row].name)
    return twins


def _looks(pictures: Sequence[StoredPicture]) -> Looks:
    return np.array([picture.look for picture in pictures], np.uint64).reshape(-1, 3)
