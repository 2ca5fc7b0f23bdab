"""Explanations kept in a file of their own: the published ones, those of `entityclip explain`, anybody's.

Two forms: a JSON object `{key: text}`, and JSON lines `{"id": …, "explanation": …}`. A key is a sample's id,
or the path of its picture with anything before it: the published files name pictures by absolute paths of
their authors' machine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from model.data.files import read_json, read_json_lines, relative_path
from model.data.sample import DataError, Sample, Split

_LINES = frozenset({".jsonl", ".ndjson"})


class _Line(msgspec.Struct, frozen=True, gc=False):
    id: str | int | None = None
    image: str | None = None
    explanation: str | None = None


def load_explanations(file: Path) -> dict[str, str]:
    """Read a file of explanations; empty ones are skipped, of several for one key the last counts.

    Args:
        file: JSON lines if its name ends in .jsonl or .ndjson, else one JSON object.

    Returns:
        key -> text. The key of a JSON line is its `id`, or its `image` where it has no id.

    Raises:
        DataError: the file cannot be read, or a line has no key.
    """
    texts = _load_lines(file) if file.suffix in _LINES else read_json(file, dict[str, str | None])
    return {key: stripped for key, text in texts.items() if (stripped := (text or "").strip())}


def _load_lines(file: Path) -> dict[str, str | None]:
    texts: dict[str, str | None] = {}
    for number, line in read_json_lines(file, _Line):
        key = line.image if line.id in (None, "") else str(line.id)
        if not key:
            raise DataError(f"{file} line {number}: it has neither id nor image")
        if line.explanation:
            texts[key] = line.explanation
    return texts


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
    texts = load_explanations(file)
    applied = [_apply(split, texts, file) for split in splits]
    if texts and any(split.samples for split in splits) and not any(explained for _, explained in applied):
        raise DataError(_wrong_keys(file, texts, next(split for split in splits if split.samples)))
    return [split for split, _ in applied]


def _apply(split: Split, texts: Mapping[str, str], file: Path) -> tuple[Split, int]:
    """The split with its explanations and a note, and how many rows the file explains."""
    by_image, unfit = _by_image(texts, split.samples, file)
    samples, explained = [], 0
    for sample in split.samples:
        text = texts.get(sample.id) or by_image.get(sample.image)
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
    texts: Mapping[str, str], samples: Collection[Sample], file: Path
) -> tuple[dict[str, str], int]:
    """Texts by picture, for the keys that are paths; and how many keys fit no row at all."""
    images = {sample.image for sample in samples}
    ids = {sample.id for sample in samples}
    found: dict[str, str] = {}
    unfit = 0
    for key, text in texts.items():
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


def _wrong_keys(file: Path, texts: Mapping[str, str], split: Split) -> str:
    row = split.samples[0]
    return (
        f"{file}: none of its {len(texts)} keys fits a row of {split.dataset} {split.name}: "
        f"it has {next(iter(texts))!r}, expected a picture such as {row.image!r} or an id such as {row.id!r}"
    )
