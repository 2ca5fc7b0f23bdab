"""What `entityclip evaluate` prints."""

from __future__ import annotations

from typing import Any

import pytest

from model.evaluation.report import data_set_lines, recall_rows

RECALL = {f"{way}_R@{k}": 0.5 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
CHANCE = {f"R@{k}": 0.01 for k in (1, 5, 10)}


def flagnews(**more: object) -> dict[str, Any]:
    yardsticks = {"chance": CHANCE, "colour_histogram": {"seen": RECALL}}
    return {"recall": {"seen": RECALL, "unseen": RECALL}, "yardsticks": yardsticks, **more}


def data_set(served: str) -> dict[str, Any]:
    counts = {"rows": 4, "of_rows": 5, "pictures": 4, "captions": 3, "explained": 2, "left_out": {"empty": 1}}
    return {
        "dataset": "d",
        "split": "test",
        "counts": counts,
        "served": served,
        "mix": None,
        "comparisons": [],
    }


def test_a_model_that_reads_explanations_is_shown_with_and_without_them() -> None:
    bare = {"seen": dict.fromkeys(RECALL, 0.25)}
    rows = recall_rows(flagnews(recall_without_explanations=bare))
    assert [row[:3] for row in rows[1:4]] == [
        ["EntityCLIP as served, with explanations", "seen", "50.0"],
        ["EntityCLIP as served, with explanations", "unseen", "50.0"],
        ["EntityCLIP without explanations", "seen", "25.0"],
    ]


def test_a_model_of_captions_has_one_row_a_group() -> None:
    assert [row[0] for row in recall_rows(flagnews())[1:4]] == [
        "EntityCLIP",
        "EntityCLIP",
        "colour histogram",
    ]


@pytest.mark.parametrize(("served", "said"), [("P", "the caption alone"), ("C", "its explanation behind it")])
def test_a_data_sets_numbers_say_which_variant_is_served(served: str, said: str) -> None:
    (line,) = [line for line in data_set_lines(data_set(served)) if line.startswith(f"served: {served},")]
    assert said in line
