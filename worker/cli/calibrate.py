"""`entityclip calibrate`: a thin wrapper of what `model` does."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.model_options import CacheOption, CheckpointOption, check_outputs, model_errors
from worker.printable import one_line
from worker.tables import Column, print_table

if TYPE_CHECKING:
    from model.evaluation.calibration import Choice, Losses
    from model.evaluation.calibration.command import Calibrated

EXAMPLE = (
    "Example: entityclip calibrate --checkpoint runs/n24news/best --pairs labelled.jsonl --precision 0.95 "
    "--plot calibration.png"
)
_IN_PART = 1  # the exit code of work that is done in part
_POINTS = 11  # rows of the precision–recall table


class Method(StrEnum):
    """From the linear score to a probability."""

    AUTO = "auto"
    PLATT = "platt"
    ISOTONIC = "isotonic"


def calibrate(
    checkpoint: CheckpointOption = "tiny",
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="Match records, each with a label of true or false, one a line; may be repeated.  "
            "[held-out FlagNews pictures]",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision", metavar="P", help="Take the least threshold that keeps it.  [the highest F1]"
        ),
    ] = None,
    method: Annotated[
        Method, typer.Option("--method", help="auto takes isotonic where it has the lower log loss.")
    ] = Method.AUTO,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            metavar="NAME,…",
            help="Of cosine, margin, explanation_similarity, entity_overlap, itm.  [cosine, and what helps]",
        ),
    ] = None,
    bins: Annotated[int, typer.Option("--bins", metavar="N", min=2, max=100, help="Of reliability.")] = 10,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Where the JSON goes.  [nowhere]")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG|SVG", help="Where it is drawn.  [nowhere]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="The checkpoint to write.  [the one read]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.")] = False,
    cache: CacheOption = None,
) -> int:
    """Fit scores to probabilities on labelled pairs and write the checkpoint with them.

    Every number printed is of pairs that were held out: five folds, all pairs of one text in the same.
    """
    _check(precision, report, plot)
    from model.checkpoint import model_id, resolve
    from model.evaluation.calibration.command import Wanted, calibrate

    names = None if parts is None else tuple(name.strip() for name in parts.split(","))
    wanted = Wanted(tuple(pairs or ()), precision, method.value, names, bins)
    with model_errors():
        read = resolve(checkpoint)
        before = model_id(read)
        found = calibrate(checkpoint, wanted, output, half=half, cache=cache)
        if report is not None:
            report.write_bytes(found.to_json())
        if plot is not None:
            from model.evaluation.calibration.plot import plot_calibration

            plot_calibration(found, plot)
        _print(found)
        written = output or read
        after = model_id(written)
    typer.echo(f"{written}: model {after}")
    if after != before:
        typer.echo(f"Its vectors are not those of model {before}: a store that one filled needs a migration.")
    return 0 if found.reached else _IN_PART


def _check(precision: float | None, report: Path | None, plot: Path | None) -> None:
    """What would otherwise fail after the work is done."""
    if precision is not None and not 0 < precision < 1:
        raise typer.BadParameter(f"{precision:g} is not between 0 and 1", param_hint="--precision")
    check_outputs(report, plot)


def _print(found: Calibrated) -> None:
    report = found.report
    if found.bad:
        lines = "1 line" if found.bad == 1 else f"{found.bad:,} lines"
        typer.echo(one_line(f"{lines} left out; the first: {found.first_bad}"), err=True)
    typer.echo(f"{report.pairs:,} pairs in {found.groups:,} groups, {report.right:,} of them right")
    typer.echo()
    _print_losses(found)
    typer.echo()
    print_table(
        _numbers("probability", "right", "95 % interval", "pairs"),
        [
            [
                f"{each.predicted:.3f}",
                f"{each.observed:.3f}",
                _interval(each.low, each.high),
                f"{each.pairs:,}",
            ]
            for each in report.bins
        ],
    )
    typer.echo()
    step = max(1, (len(found.curve) - 1) // (_POINTS - 1))
    print_table(
        _numbers("threshold", "precision", "95 % interval", "recall", "coverage", "emitted"),
        [_point(choice) for choice in found.curve[::step]],
    )
    typer.echo()
    typer.echo(_formula(found))
    typer.echo(_threshold_line(found))


def _print_losses(found: Calibrated) -> None:
    report, choices = found.report, found.choices
    tried = [
        [f"tried: {_name(each.method, each.parts)}", "", f"{each.log_loss:.4f}"] for each in choices.trials
    ]
    print_table(
        [Column("held-out pairs"), *_numbers("Brier", "log loss")],
        [
            ["base rate", *_losses(report.base)],
            ["cosine alone, Platt", *_losses(found.cosine_alone)],
            [f"written: {_name(choices.method, choices.parts)}", *_losses(report.losses)],
            *(tried if len(tried) > 1 else []),
        ],
    )


def _name(method: str, parts: tuple[str, ...]) -> str:
    return f"{' + '.join(parts)}, {'Platt' if method == 'platt' else method}"


def _numbers(*titles: str) -> list[Column]:
    return [Column(title, align="right") for title in titles]


def _losses(losses: Losses) -> list[str]:
    return [f"{losses.brier:.4f}", f"{losses.log_loss:.4f}"]


def _interval(low: float, high: float) -> str:
    return f"{low:.3f}–{high:.3f}"


def _point(choice: Choice) -> list[str]:
    return [
        f"{choice.threshold:.4f}",
        f"{choice.precision:.3f}",
        _interval(choice.low, choice.high),
        f"{choice.recall:.3f}",
        f"{choice.coverage:.3f}",
        f"{choice.emitted:,}",
    ]


def _formula(found: Calibrated) -> str:
    matching = found.matching
    linear = " + ".join(
        [f"{matching.intercept:g}", *(f"{weight:g} · {name}" for name, weight in matching.weights.items())]
    )
    shape = f"isotonic, {len(matching.knots)} knots" if matching.knots else "sigmoid"
    return f"score = {shape} of {linear}"


def _threshold_line(found: Calibrated) -> str:
    choice = found.threshold
    interval = _interval(choice.low, choice.high)
    line = (
        f"threshold {choice.threshold:g}: precision {choice.precision:.3f} ({interval}), "
        f"{choice.emitted:,} emitted = coverage {choice.coverage:.3f}, recall {choice.recall:.3f}"
    )
    if found.reached:
        return line
    return f"no threshold keeps a precision of {found.precision:g}; that of the highest F1 is kept: {line}"
