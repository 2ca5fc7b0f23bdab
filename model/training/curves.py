"""`curves.png`: the parts of the loss and the validation recall of a run over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.training.log import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_NAME = "curves.png"
_PARTS = ("loss", "contrastive", "auxiliary", "matching")
_WINDOW = 100  # points of a smoothed curve, about


def draw_curves(output: Path) -> Path | None:
    """Draw what `metrics.jsonl` of a run holds.

    Returns:
        The picture's path; None if no step was logged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [line for line in read_metrics(output) if "wise_ft" not in line]
    steps = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "recall" in line]
    if not steps:
        return None
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_losses(left, steps)
    _draw_recall(right, validations)
    right.set_xlim(left.get_xlim())
    figure.savefig(output / CURVES_NAME, dpi=120)
    return output / CURVES_NAME


def _draw_losses(axes: Axes, lines: Sequence[dict[str, Any]]) -> None:
    step = np.array([line["step"] for line in lines])
    width = max(1, len(lines) // _WINDOW)
    for name in _PARTS:
        values = np.array([line[name] for line in lines], float)
        if values.any():
            axes.plot(*_means(step, values, width), label=name, linewidth=1.4)
    axes.set(xlabel="step", ylabel=f"loss, nats{f' (means of {width} steps)' if width > 1 else ''}")
    axes.set_title("training loss")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _draw_recall(axes: Axes, lines: Sequence[dict[str, Any]]) -> None:
    step = [line["step"] for line in lines]
    names = [name for name in (lines[0] if lines else {}) if name.endswith(("R@1", "R@10"))]
    for name in names:
        axes.plot(step, [line[name] for line in lines], label=name.replace("_", " "), linewidth=1.2)
    axes.plot(step, [line["recall"] for line in lines], "k.--", label="recall (picks the best)", linewidth=1)
    if lines:
        best = max(lines, key=lambda line: line["recall"])
        axes.annotate(
            f"{best['recall']:.3f}",
            (best["step"], best["recall"]),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
        )
    axes.set(xlabel="step", ylabel="recall", title="validation", ylim=(0, 1))
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _means(
    step: np.ndarray[Any, Any], values: np.ndarray[Any, Any], width: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Means of `width` consecutive points; what is left over at the end is left out."""
    count = len(step) // width * width
    return step[:count].reshape(-1, width).mean(axis=1), values[:count].reshape(-1, width).mean(axis=1)
