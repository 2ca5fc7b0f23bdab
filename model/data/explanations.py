"""Explanations kept in a file of their own: the published ones, those of `entityclip explain`, anybody's.

Two forms: a JSON object `{key: text}`, and JSON lines `{"id": …, "explanation": …}`. A key is a sample's id,
or the path of its picture with anything before it: the published files name pictures by absolute paths of
their authors' machine. A line with an `image` beside its `id` is for that picture alone: ids are unique in
their split only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from model.data.files import read_json, read_json_lines, relative_path
from model.data.sample import DataError, Sample, Split

_LINES = frozenset({".jsonl", ".ndjson"})


class _Line(msgspec.Struct, frozen=True, gc=False):
    id: str | int | None = None
    image: str | None = None
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class Explanations:
    """What a file of explanations holds.

    Args:
        texts: by key.
        pictures: of keys that are ids, the picture that the text is meant for, where the file says so.
    """

    texts: dict[str, str]
    pictures: dict[str, str] = field(default_factory=dict)

    def by_id(self, sample: Sample) -> str | None:
        """The text under a sample's id, unless it is meant for another picture."""
        text = self.texts.get(sample.id)
        return text if text and same_picture(self.pictures.get(sample.id, ""), sample.image) else None


def same_picture(one: str, other: str) -> bool:
    """Whether two paths may be of one picture: one ends in the other, as in a tar and in a folder."""
    return one.endswith(other) or other.endswith(one)


def load_explanations(file: Path) -> Explanations:
    """Read a file of explanations; empty ones are skipped, of several for one key the last counts.

    Args:
        file: JSON lines if its name ends in .jsonl or .ndjson, else one JSON object.

    Returns:
        The key of a JSON line is its `id`, or its `image` where it has no id.

    Raises:
        DataError: the file cannot be read, or a line has no key.
    """
    if file.suffix in _LINES:
        return _load_lines(file)
    texts = read_json(file, dict[str, str | None])
    return Explanations({key: stripped for key, text in texts.items() if (stripped := (text or "").strip())})


def _load_lines(file: Path) -> Explanations:
    found = Explanations({})
    for number, line in read_json_lines(file, _Line):
        has_id = line.id not in (None, "")
        key = str(line.id) if has_id else line.image
        if not key:
            raise DataError(f"{file} line {number}: it has neither id nor image")
        if text := (line.explanation or "").strip():
            found.texts[key] = text
            if has_id:
                found.pictures[key] = relative_path(line.image or "")
    return found


def apply_explanations(split: Split, file: Path) -> Split:
    """Give the rows the explanations of a file in place of their own; rows it does not name keep theirs.

    A note of the split counts rows explained, rows without, and keys that fit no row.

    Raises:
        DataError: the file cannot be read, none of its keys fits a row, or two keys fit one picture.
    """
    return apply_to_splits([split], file)[0]


def apply_to_splits(splits: Sequence[Split], file: Path) -> list[Split]:
    """As `apply_explanations` for a file that may be meant for some of the splits only.

    Raises:
        DataError: as there; none of its keys fits a row of any of the splits.
    """
    explanations = load_explanations(file)
    applied = [_apply(split, explanations, file) for split in splits]
    rows = next((split for split in splits if split.samples), None)
    if explanations.texts and rows is not None and not any(explained for _, explained in applied):
        raise DataError(_wrong_keys(file, explanations, rows))
    return [split for split, _ in applied]


def _apply(split: Split, explanations: Explanations, file: Path) -> tuple[Split, int]:
    """The split with its explanations and a note, and how many rows the file explains."""
    by_image, unfit = _by_image(explanations, split.samples, file)
    samples, explained = [], 0
    for sample in split.samples:
        text = explanations.by_id(sample) or by_image.get(sample.image)
        explained += text is not None
        samples.append(msgspec.structs.replace(sample, explanation=text) if text else sample)
    note = (
        f"{file.name}: explains {explained} of {len(samples)} rows; "
        f"{sum(not sample.explanation for sample in samples)} have no explanation, "
        f"{unfit} of its keys fit no row"
    )
    notes = [*split.notes, note]
    return Split(split.dataset, split.name, split.images, samples, split.left_out, notes), explained


def apply_published(split: Split, file: Path) -> Split:
    """As `apply_explanations` for the file that belongs to a data set; without it a note says so."""
    if not file.exists():
        split.notes.append(f"no explanations: there is no {file}")
        return split
    return apply_explanations(split, file)


def _by_image(
    explanations: Explanations, samples: Collection[Sample], file: Path
) -> tuple[dict[str, str], int]:
    """Texts by picture, for the keys that are paths; and how many keys fit no row at all."""
    images = {sample.image for sample in samples}
    ids = {sample.id for sample in samples if explanations.by_id(sample)}
    found: dict[str, str] = {}
    unfit = 0
    for key, text in explanations.texts.items():
        if key in ids:
            continue
        image = _image_of(key, images)
        if image is None:
            unfit += 1
        elif found.setdefault(image, text) != text:
            raise DataError(f"{file}: more than one key fits the picture {image}, such as {key!r}")
    return found, unfit


def _image_of(key: str, images: Collection[str]) -> str | None:
    """The longest ending of a path that is a known picture."""
    path = relative_path(key)
    while path and path not in images:
        path = path.partition("/")[2]
    return path or None


def _wrong_keys(file: Path, explanations: Explanations, split: Split) -> str:
    row, texts = split.samples[0], explanations.texts
    key = next(iter(texts))
    picture = explanations.pictures.get(key)
    its_key = f"{key!r} for the picture {picture!r}" if picture else repr(key)
    return (
        f"{file}: none of its {len(texts)} keys fits a row of {split.dataset} {split.name}: "
        f"it has {its_key}, expected a picture such as {row.image!r} or an id such as {row.id!r}"
    )
