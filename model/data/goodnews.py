"""GoodNews (arXiv:1904.01475): the official article file with `img_splits.json`, or derived lists of pairs.

Derived (any `new_goodnews_capim_{split}.json`) is read if it is there, else official; a note of the split
says which. Pictures are `images/<article_id>_<ix>.jpg` in both, and `<article_id>_<ix>` is the id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from model.data.explanations import apply_published
from model.data.files import find_pictures, read_json, read_lines, relative_path
from model.data.rows import SPLITS, as_stored, collect, other_splits, usable
from model.data.sample import DataError, LeftOut, Sample, Split

_CAPTION_FILES = ("article+caption.json", "article_caption.json", "captioning_dataset.json")
_PICTURES = ("images", "resized")


class _Article(msgspec.Struct, frozen=True, gc=False):
    images: dict[str, str | None] = {}


class _Pair(msgspec.Struct, frozen=True, gc=False):
    image_id: str | None = None
    captioning: str | None = None


def read(root: Path, split: str) -> Split:
    """Read a split.

    The derived form has `train_cap_individual/New_Corr_CapDsc_mistral_{split}.json` as its explanations and
    `broken_images.txt` as a list of what to leave out, if they are there. Unlike the published code we keep
    rows without an explanation.

    Raises:
        DataError: a file is missing or wrong.
    """
    if any((root / f"new_goodnews_capim_{name}.json").is_file() for name in SPLITS):
        return _read_derived(root, split)
    for name in _CAPTION_FILES:
        if (root / name).is_file():
            return _read_official(root, root / name, split)
    raise DataError(
        f"{root}: neither new_goodnews_capim_{split}.json nor {' or '.join(_CAPTION_FILES)} is there"
    )


def _read_derived(root: Path, split: str) -> Split:
    pairs = read_json(root / f"new_goodnews_capim_{split}.json", list[_Pair])
    pictures = find_pictures(root, _PICTURES)
    found = collect("goodnews", split, pictures, _derived_rows(pairs, _broken(root)))
    found.notes.append(f"derived pairs: new_goodnews_capim_{split}.json")
    explanations = root / "train_cap_individual" / f"New_Corr_CapDsc_mistral_{split}.json"
    return as_stored(apply_published(found, explanations), pictures)


def _broken(root: Path) -> frozenset[str]:
    path = root / "broken_images.txt"
    if not path.exists():
        return frozenset()
    return frozenset(_stem(line.decode(errors="replace")) for _, line in read_lines(path))


def _derived_rows(pairs: list[_Pair], broken: frozenset[str]) -> Iterator[Sample | LeftOut]:
    for pair in pairs:
        key = _stem(pair.image_id or "")
        yield LeftOut.LISTED_AS_BROKEN if key and key in broken else _row(key, pair.captioning)


def _read_official(root: Path, captions: Path, split: str) -> Split:
    split_of = read_json(root / "img_splits.json", dict[str, str])
    articles = read_json(captions, dict[str, _Article])
    pictures = find_pictures(root, _PICTURES)
    keys = (_stem(key) for key, name in split_of.items() if name == split)
    found = collect("goodnews", split, pictures, _official_rows(keys, articles))
    unsplit = sum(len(article.images) for article in articles.values()) - len(split_of)
    found.notes.append(f"official: {captions.name}; {max(0, unsplit)} of its captions are in no split")
    if others := sum(name not in SPLITS for name in split_of.values()):
        found.notes.append(other_splits(others, "img_splits.json"))
    return as_stored(found, pictures)


def _official_rows(keys: Iterator[str], articles: Mapping[str, _Article]) -> Iterator[Sample | LeftOut]:
    for key in keys:
        article_id, _, index = key.rpartition("_")
        article = articles.get(article_id)
        if article is None or index not in article.images:
            yield LeftOut.INCOMPLETE_ROW
        else:
            yield _row(key, article.images[index])


def _row(key: str, caption: str | None) -> Sample | LeftOut:
    """Captions are cleaned as the published code does: the line ends of Windows, and stray halves of them."""
    text = (caption or "").replace("\r\n", " ").replace("\r", "")
    return usable(key, f"{key}.jpg" if key else "", text, article=key.rpartition("_")[0])


def _stem(image_id: str) -> str:
    return relative_path(image_id.strip()).removesuffix(".jpg")
