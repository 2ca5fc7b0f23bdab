"""The one form in which every data set reaches the model, and the account of what could not be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One image–caption pair.

    Args:
        id: unique within its split.
        image: path of the picture below `Split.images`, or member name of the tar.
        caption: never blank.
        explanation: empty where there is none.
        article: id of the article it comes from, empty where the data set does not say; a split of our own
            never parts an article.
        section: class of the zero-shot test (N24News' section, VisualNews' topic), empty where there is none.
    """

    id: str
    image: str
    caption: str
    explanation: str = ""
    article: str = ""
    section: str = ""


class LeftOut(StrEnum):
    """Why a row of a data set is not used."""

    EMPTY_CAPTION = "empty_caption"
    MISSING_IMAGE = "missing_image"
    BROKEN_IMAGE = "broken_image"
    LISTED_AS_BROKEN = "listed_as_broken"
    INCOMPLETE_ROW = "incomplete_row"
    REPEATED_ID = "repeated_id"
    NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set, read but for its pictures.

    Args:
        dataset: its name, such as `n24news`.
        name: `train`, `val` or `test`.
        images: the folder, or the tar file, that holds the pictures.
        samples: what can be used, in the order of the file.
        left_out: rows that cannot, by reason.
        notes: one line each about what a person should know (explanations that fit no row, …).
    """

    dataset: str
    name: str
    images: Path
    samples: list[Sample]
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class DataError(ValueError):
    """A data set cannot be read; the message is one line that names the file."""


class MissingFile(DataError):
    """A file is not there; other splits may do without it."""
