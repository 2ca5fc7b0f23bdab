"""One door to every data set: `KIND:PATH` and a split.

read_split("n24news:/data/N24News", "train")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from model.data import goodnews, jsonl, mbeir, n24news, visualnews
from model.data.rows import SPLITS, counts_of
from model.data.sample import DataError, LeftOut, MissingFile, Split

__all__ = ["KINDS", "SPLITS", "parse_spec", "read_split", "read_splits"]

_READERS: dict[str, Callable[[Path, str], Split]] = {
    "n24news": n24news.read,
    "visualnews": visualnews.read,
    "goodnews": goodnews.read,
    "mbeir": mbeir.read,
    "jsonl": jsonl.read,
}
KINDS = tuple(_READERS)


def parse_spec(spec: str) -> tuple[str, Path]:
    """Take `KIND:PATH` apart.

    Raises:
        DataError: it has another form, the kind is unknown, or there is nothing at the path.
    """
    kind, colon, path = spec.partition(":")
    if not colon or not path:
        raise DataError(f"a data set is given as KIND:PATH with KIND one of {', '.join(KINDS)}, not {spec!r}")
    if kind not in _READERS:
        raise DataError(f"unknown kind of data set {kind!r} in {spec!r}; known: {', '.join(KINDS)}")
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"{spec}: there is no {root}")
    if kind != "jsonl" and not root.is_dir():
        raise DataError(f"{spec}: {root} is not a folder")
    return kind, root


def read_split(spec: str, split: str) -> Split:
    """Read one split of a data set, all but its pictures.

    Args:
        spec: `KIND:PATH`; what a kind expects at its path is said by `model.data.<kind>`.
        split: `train`, `val` or `test`.

    Raises:
        DataError: wrong spec, unknown split, or a file that is missing or cannot be read; one line.
    """
    kind, root = parse_spec(spec)
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    return _READERS[kind](root, split)


def read_splits(spec: str, names: Sequence[str]) -> list[Split]:
    """Read several splits, of which at least one has rows.

    Raises:
        DataError: as `read_split`; where only some of the splits are there, it says how to do with those.
    """
    parse_spec(spec)
    splits: list[Split] = []
    missing: list[MissingFile] = []
    for name in names:
        try:
            splits.append(read_split(spec, name))
        except MissingFile as exc:
            missing.append(exc)
    if missing and splits:
        others = " ".join(f"--split {split.name}" for split in splits)
        raise DataError(f"{missing[0]}; entityclip prepare without it: {others}") from missing[0]
    if missing:
        raise missing[0]
    if not any(split.samples for split in splits):
        raise DataError(f"{spec}: no row of {', '.join(names)} can be used ({_why_none(splits)})")
    return splits


def _why_none(splits: Sequence[Split]) -> str:
    """What became of the rows, then what the reader has to say."""
    left_out = sum((split.left_out for split in splits), Counter[LeftOut]())
    notes = dict.fromkeys(note for split in splits for note in split.notes)
    return "; ".join([counts_of(left_out) or "it has none", *notes])
