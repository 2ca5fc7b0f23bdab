"""Labelled match records: what is read of them, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.calibration.labelled import read_labelled

MODEL = "0123456789ab"


def written(path: Path, *lines: object) -> Path:
    """A file of lines; text as it is, anything else as JSON."""
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n")
    return path


def test_parts_are_read_and_missing_ones_are_nan(tmp_path: Path) -> None:
    full = {
        "cosine": 0.4,
        "label": True,
        "explanation_similarity": 0.3,
        "entity_overlap": 0.5,
        "itm_probability": 0.75,
        "text_post_id": "a",
        "model_id": MODEL,
        "rank": 3,
    }
    bare = {"cosine": 0.1, "label": False, "itm_probability": None}
    pairs = read_labelled([written(tmp_path / "pairs.jsonl", full, bare)], MODEL).pairs
    assert pairs.label.tolist() == [True, False]
    np.testing.assert_allclose(
        pairs.matrix(["cosine", "explanation_similarity", "entity_overlap", "itm"]),
        [[0.4, 0.3, 0.5, math.log(3)], [0.1, np.nan, np.nan, np.nan]],
    )


def test_a_certain_matching_head_is_bounded(tmp_path: Path) -> None:
    lines = [{"cosine": 0, "label": True, "itm_probability": value} for value in (0, 1e-30, 1)]
    pairs = read_labelled([written(tmp_path / "pairs.jsonl", *lines)], MODEL).pairs
    assert pairs.matrix(["itm"])[:, 0].tolist() == [-10, -10, 10]


def test_pairs_are_grouped_by_the_group_or_else_the_text_or_else_the_line(tmp_path: Path) -> None:
    lines = [
        {"cosine": 0, "label": True, "group": 1, "text_post_id": "a"},
        {"cosine": 0, "label": True, "group": 1, "text_post_id": "b"},
        {"cosine": 0, "label": True, "text_post_id": "a"},
        {"cosine": 0, "label": True, "text_post_id": "a"},
        {"cosine": 0, "label": True},
    ]
    paths = [written(tmp_path / name, *lines) for name in ("one", "two")]
    pairs = read_labelled(paths, MODEL).pairs
    assert len(pairs) == 10
    assert pairs.groups == 4
    assert pairs.group[0] == pairs.group[1] != pairs.group[2] == pairs.group[3]


def test_a_pair_that_went_out_twice_counts_once(tmp_path: Path) -> None:
    lines = [{"cosine": 0, "label": label, "match_id": "m"} for label in (True, False)]
    pairs = read_labelled([written(tmp_path / "pairs.jsonl", *lines)], MODEL).pairs
    assert pairs.label.tolist() == [False]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "truncated"),
        ({"cosine": 0.1}, "missing required field `label`"),
        ({"cosine": 0.1, "label": "yes"}, "Expected `bool`"),
        ({"cosine": 7, "label": True}, "cosine 7 is out of range"),
        ({"cosine": 0.1, "label": True, "entity_overlap": -1}, "entity_overlap -1 is out of range"),
    ],
)
def test_a_bad_line_is_counted_and_the_first_named(tmp_path: Path, bad: object, message: str) -> None:
    good = {"cosine": 0.1, "label": True}
    read = read_labelled([written(tmp_path / "pairs.jsonl", good, "", bad, bad)], MODEL)
    assert (len(read.pairs), read.bad) == (1, 2)
    assert read.first_bad.startswith(f"{tmp_path}/pairs.jsonl:3: ")
    assert message in read.first_bad


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"label": 1}'], r"no labelled pair can be used; the first line: .*:1: "),
        ([""], "no labelled pairs"),
        ([{"cosine": 0, "label": True, "model_id": "beef"}], "pair of model beef, the checkpoint is 0123"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labelled([written(tmp_path / "pairs.jsonl", *lines)], MODEL)
