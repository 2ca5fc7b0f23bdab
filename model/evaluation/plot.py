"""Recall over k as a picture: one curve a variant and condition, a panel a direction, a row a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.evaluation.dataset_run import DataSetResult
from model.evaluation.dataset_variants import DIRECTIONS

_COLOURS = {"P": "black", "C": "tab:orange", "Q": "tab:blue", "R": "tab:green", "QR": "tab:red"}
_LINES = {"true": "-", "none": "--", "shuffled": ":"}
_MOST_K = 1000


def plot_recall(results: Sequence[DataSetResult], path: Path) -> None:
    """Draw duplicate-aware R@k, k from 1 to 1000 on a logarithmic axis; the same input gives the same bytes.

    Raises:
        ValueError: the name ends in no picture format that matplotlib writes.
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2 * len(results) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), len(DIRECTIONS), squeeze=False, sharey="row")
    for row, result in zip(panels, results, strict=True):
        count = len(result.measured[0].image_to_text.strict)
        ks = np.unique(np.geomspace(1, min(_MOST_K, count), 100).astype(np.int64))
        for panel, direction in zip(row, DIRECTIONS, strict=True):
            for each in result.measured:
                rank = getattr(each, direction).duplicate_aware
                panel.plot(
                    ks,
                    recall_curve(rank, ks),
                    label=each.variant if each.variant == "P" else f"{each.variant}, {each.explanations}",
                    color=_COLOURS[each.variant],
                    linestyle="-" if each.variant == "P" else _LINES[each.explanations],
                    zorder=3 if each.variant == "P" else 2,
                )
            panel.plot(ks, 100 * ks / count, label="chance", color="0.7", linewidth=1)
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("")  # on a short axis it would write powers of ten
            panel.set_ylim(0, 100)
            panel.grid(alpha=0.3)
            panel.set_xlabel("k")
            panel.set_title(f"{result.facts['dataset']} ({count:,}): {direction.replace('_', ' ')}")
        row[0].set_ylabel("R@k, %, duplicate-aware")
        row[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)


def recall_curve(rank: NDArray[np.int64], ks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Per cent of the [N] ranks that are within each of the [K] ks."""
    return 100 * np.searchsorted(np.sort(rank), ks, side="right") / len(rank)
