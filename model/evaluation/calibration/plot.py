"""A calibration as a picture: reliability, how many pairs have which probability, precision over recall."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.evaluation.calibration.command import Calibrated

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_calibration(found: Calibrated, path: Path) -> None:
    """Draw it; the same input gives the same bytes of a PNG.

    Raises:
        ValueError: the name ends in no picture format that matplotlib writes.
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    reliability = figure.add_subplot(grid[0, 0])
    _draw_reliability(reliability, found)
    _draw_masses(figure.add_subplot(grid[1, 0], sharex=reliability), found)
    _draw_curve(figure.add_subplot(grid[:, 1]), found)
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)


def _draw_reliability(axes: Axes, found: Calibrated) -> None:
    bins = found.report.bins
    observed = np.array([each.observed for each in bins])
    below = observed - [each.low for each in bins]
    above = np.array([each.high for each in bins]) - observed
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    axes.errorbar(
        [each.predicted for each in bins],
        observed,
        yerr=np.clip([below, above], 0, None),
        fmt="o-",
        markersize=4,
        linewidth=1.2,
        capsize=3,
        label=f"{len(bins)} bins, 95 % intervals",
    )
    axes.axhline(found.report.base_rate, color="0.7", linestyle=":", label="base rate")
    method = {"platt": "Platt", "isotonic": "isotonic"}[found.choices.method]
    parts = ", ".join(name.replace("_", " ") for name in found.choices.parts)
    axes.set_title(f"reliability: {method} on {parts}", fontsize="medium")
    axes.set(ylabel="right", xlim=(0, 1), ylim=(0, 1))
    axes.tick_params(labelbottom=False)
    _finish(axes, "upper left")


def _draw_masses(axes: Axes, found: Calibrated) -> None:
    counts = found.report.histogram
    width = 1 / len(counts)
    middles = width * (np.arange(len(counts)) + 0.5)
    axes.bar(middles, counts, width=width, color="tab:blue", alpha=0.6)
    axes.set_yscale("log")
    axes.set(xlabel="probability", ylabel="pairs")
    axes.grid(alpha=0.3)


def _draw_curve(axes: Axes, found: Calibrated) -> None:
    recall = [choice.recall for choice in found.curve]
    axes.fill_between(
        recall,
        [choice.low for choice in found.curve],
        [choice.high for choice in found.curve],
        alpha=0.2,
        linewidth=0,
        label="95 % interval",
    )
    axes.plot(recall, [choice.precision for choice in found.curve], linewidth=1.4, label="held-out pairs")
    chosen = found.threshold
    axes.plot([chosen.recall], [chosen.precision], "o", color="tab:red", label=_choice_label(found), zorder=3)
    if found.precision is not None:
        wanted = f"wanted: {found.precision:.0%}"
        axes.axhline(found.precision, color="tab:red", linestyle=":", linewidth=1, label=wanted)
    axes.set_title("precision over recall", fontsize="medium")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _finish(axes, "lower left")


def _choice_label(found: Calibrated) -> str:
    chosen = found.threshold
    why = "" if found.precision is not None and found.reached else ", highest F1"
    return (
        f"threshold {chosen.threshold:.3f}{why}: precision {chosen.precision:.3f}, recall {chosen.recall:.3f}"
    )


def _finish(axes: Axes, place: Literal["upper left", "lower left"]) -> None:
    axes.grid(alpha=0.3)
    axes.legend(loc=place, fontsize="small")
