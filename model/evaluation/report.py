"""What `evaluate` measured, as rows for a person; recall in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.evaluation.retrieval import DATA_SET_KS, KS

_DIRECTIONS = {"image_to_text": "I→T", "text_to_image": "T→I"}
_FORMS = {"strict": "strict", "duplicate_aware": "dup-aware"}
_SERVED = {
    "P": "P, the caption alone",
    "C": "C, the caption with its explanation behind it (P where it has none)",
}


def recall_rows(result: dict[str, Any]) -> list[list[str]]:
    """FlagNews: a header and one row a method and group of queries.

    What is served comes first; a checkpoint that reads explanations is shown without them too.

    Args:
        result: of `model.evaluation.command.evaluate`.
    """
    header = ["", "queries", *(f"{arrow} R@{k}" for arrow in _DIRECTIONS.values() for k in KS)]
    histogram, chance = result["yardsticks"]["colour_histogram"], result["yardsticks"]["chance"]
    rows = [header]
    without = result.get("recall_without_explanations", {})
    served = "EntityCLIP as served, with explanations" if without else "EntityCLIP"
    rows += [_row(served, group, recall) for group, recall in result["recall"].items()]
    rows += [_row("EntityCLIP without explanations", group, recall) for group, recall in without.items()]
    rows += [_row("colour histogram", group, recall) for group, recall in histogram.items()]
    rows.append(_row("chance", "all", {f"{d}_R@{k}": chance[f"R@{k}"] for d in _DIRECTIONS for k in KS}))
    return rows


def _row(method: str, group: str, recall: dict[str, float]) -> list[str]:
    return [method, group, *(f"{100 * recall[f'{d}_R@{k}']:.1f}" for d in _DIRECTIONS for k in KS)]


def data_set_rows(results: Sequence[dict[str, Any]], direction: str) -> list[list[str]]:
    """Data sets: a header and one row a data set, variant, condition and form of counting.

    Args:
        results: facts of `model.evaluation.dataset_run.evaluate_data_set`.
        direction: `image_to_text` or `text_to_image`.
    """
    columns = [*(f"R@{k}" for k in DATA_SET_KS), "median", "mean", "MRR"]
    rows = [["data", _DIRECTIONS[direction], "explanations", "counted", *columns]]
    for result in results:
        for form, title in _FORMS.items():
            rows += [
                [
                    result["dataset"],
                    each["variant"],
                    each["explanations"],
                    title,
                    *_cells(each[direction][form]),
                ]
                for each in result["variants"]
            ]
        rows.append([result["dataset"], "chance", "", "strict", *_cells(result["chance"])])
    return rows


def _cells(metrics: dict[str, float]) -> list[str]:
    return [
        *(f"{100 * metrics[f'R@{k}']:.1f}" for k in DATA_SET_KS),
        f"{metrics['median_rank']:,.0f}",
        f"{metrics['mean_rank']:,.1f}",
        f"{metrics['MRR']:.3f}",
    ]


def data_set_lines(result: dict[str, Any]) -> list[str]:
    """What a person should know of one data set's numbers, a line each."""
    counts, left_out = result["counts"], result["counts"]["left_out"]
    lines = [
        f"{result['dataset']}, {result['split']}: {counts['rows']:,} of {counts['of_rows']:,} rows, "
        f"{counts['pictures']:,} pictures, {counts['captions']:,} captions, {counts['explained']:,} explained"
    ]
    lines.append(f"served: {_SERVED[result['served']]}")
    if left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
        lines.append(f"left out when the data was prepared: {reasons}")
    if result["mix"] is None:
        lines.append("experts and matching head are untrained: only P and C are measured")
    else:
        lines.append(f"Q: share of T* {result['mix']['share']:g}, chosen on {result['mix']['chosen_on']}")
        lines.append(
            f"R, QR: the first {result['rerank']} re-ranked" if result["rerank"] else "no re-ranking"
        )
    return lines + [comparison["sentence"] for comparison in result["comparisons"]]


def section_rows(sections: dict[str, Any]) -> list[list[str]]:
    """Zero-shot sections: a header, one row a section, and their mean."""
    rows = [["section", "pictures", "precision", "recall", "F1"]]
    for name, scores in sections["sections"].items():
        rows.append(
            [
                name,
                str(scores["support"]),
                *(f"{100 * scores[key]:.1f}" for key in ("precision", "recall", "F1")),
            ]
        )
    return rows


def section_line(sections: dict[str, Any]) -> str:
    """Accuracy beside the answer that needs no picture."""
    return (
        f"zero-shot sections: accuracy {100 * sections['accuracy']:.1f} %, "
        f"macro-F1 {100 * sections['macro_f1']:.1f} %; "
        f"always the most frequent section: {100 * sections['majority']:.1f} %"
    )
