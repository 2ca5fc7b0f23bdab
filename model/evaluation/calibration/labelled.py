"""Labelled pairs from JSONL: match records, as the worker emits them, each with a `label`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.calibration import bounded_itm
from model.evaluation.calibration.pairs import LabelledPairs

_SLACK = 1e-3  # a cosine of two rounded vectors may be beyond 1


@dataclass(frozen=True, slots=True)
class Labelled:
    """What files held.

    Args:
        bad: lines that could not be used; `first_bad` says where the first is and what is wrong.
    """

    pairs: LabelledPairs
    bad: int
    first_bad: str


class _Line(msgspec.Struct):
    label: bool
    cosine: float
    explanation_similarity: float | None = None
    entity_overlap: float | None = None
    itm_probability: float | None = None
    margin: float | None = None
    match_id: str | None = None
    text_post_id: str | None = None
    group: str | int | None = None
    model_id: str | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("cosine", -1 - _SLACK, 1 + _SLACK),
            ("explanation_similarity", -1 - _SLACK, 1 + _SLACK),
            ("margin", -2 - _SLACK, 2 + _SLACK),
            ("entity_overlap", 0, 1),
            ("itm_probability", 0, 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} {value:g} is out of range")


def read_labelled(paths: Sequence[Path], model_id: str) -> Labelled:
    """Read labelled pairs; of lines with one match id the last counts.

    Without a `group`, the pairs of one text post are a group; without either, a line is one of its own.

    Args:
        model_id: of the checkpoint, whose cosines these must be; a line that names none is believed.

    Raises:
        ValueError: a line of another model, or no usable line.
        OSError: a file cannot be read.
    """
    lines: dict[str, _Line] = {}
    bad, first_bad = 0, ""
    for number_of_file, path in enumerate(paths):
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:
                    line = msgspec.json.decode(raw, type=_Line)
                except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                    bad += 1
                    first_bad = first_bad or f"{path}:{number}: {exc}"
                    continue
                if line.model_id not in (None, model_id):
                    raise ValueError(
                        f"{path}:{number}: a pair of model {line.model_id}, the checkpoint is {model_id}"
                    )
                lines[line.match_id or f"{number_of_file}:{number}"] = line
    if not lines:
        raise ValueError(
            f"no labelled pair can be used; the first line: {first_bad}" if bad else _empty(paths)
        )
    return Labelled(_pairs(lines), bad, first_bad)


def _empty(paths: Sequence[Path]) -> str:
    return f"{', '.join(map(str, paths))}: no labelled pairs"


def _pairs(lines: dict[str, _Line]) -> LabelledPairs:
    found = list(lines.values())
    return LabelledPairs(
        cosine=_column([line.cosine for line in found]),
        label=np.array([line.label for line in found]),
        group=np.array([_group(name, line) for name, line in lines.items()]),
        explanation_similarity=_column([line.explanation_similarity for line in found]),
        entity_overlap=_column([line.entity_overlap for line in found]),
        itm=_column([_itm_logit(line.itm_probability) for line in found]),
        margin=_column([line.margin for line in found]),
    )


def _group(name: str, line: _Line) -> str:
    if line.group is not None:
        return f"group {line.group}"
    return f"line {name}" if line.text_post_id is None else f"text {line.text_post_id}"


def _itm_logit(probability: float | None) -> float | None:
    if probability is None:
        return None
    if probability in (0.0, 1.0):
        return bounded_itm(math.inf if probability else -math.inf)
    return bounded_itm(math.log(probability / (1 - probability)))


def _column(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], np.float64)
