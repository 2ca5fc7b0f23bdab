"""One door to every data set: `KIND:PATH` and a split.

read_split("n24news:/data/N24News", "train")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model.data import goodnews, jsonl, mbeir, n24news, visualnews
from model.data.rows import SPLITS
from model.data.sample import DataError, Split

__all__ = ["KINDS", "SPLITS", "parse_spec", "read_split"]

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
