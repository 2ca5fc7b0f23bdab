"""What `evaluate` measured, as rows for a person."""

from __future__ import annotations

from typing import Any

from model.evaluation.retrieval import KS

_DIRECTIONS = {"image_to_text": "I→T", "text_to_image": "T→I"}


def recall_rows(result: dict[str, Any]) -> list[list[str]]:
    """A header and one row a method and group of queries; recall in per cent.

    Args:
        result: of `model.evaluation.command.evaluate`.
    """
    header = ["", "queries", *(f"{arrow} R@{k}" for arrow in _DIRECTIONS.values() for k in KS)]
    histogram, chance = result["yardsticks"]["colour_histogram"], result["yardsticks"]["chance"]
    rows = [header]
    rows += [_row("EntityCLIP", group, recall) for group, recall in result["recall"].items()]
    rows += [_row("colour histogram", group, recall) for group, recall in histogram.items()]
    rows.append(_row("chance", "all", {f"{d}_R@{k}": chance[f"R@{k}"] for d in _DIRECTIONS for k in KS}))
    return rows


def _row(method: str, group: str, recall: dict[str, float]) -> list[str]:
    return [method, group, *(f"{100 * recall[f'{d}_R@{k}']:.1f}" for d in _DIRECTIONS for k in KS)]
