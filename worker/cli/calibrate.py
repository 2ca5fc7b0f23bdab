"""`entityclip calibrate`: a thin wrapper of what `model` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import CacheOption, CheckpointOption, model_errors

EXAMPLE = "Example: entityclip calibrate --checkpoint runs/tiny/best --output tiny --half"


def calibrate(
    checkpoint: CheckpointOption = "tiny",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="The checkpoint to write.  [the one read]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.")] = False,
    cache: CacheOption = None,
) -> None:
    """Fit scores to probabilities on held-out FlagNews pictures and write the checkpoint with them."""
    from model.checkpoint import model_id, resolve
    from model.evaluation import command

    with model_errors():
        folder = output or resolve(checkpoint)
        fitted = command.calibrate(checkpoint, folder, cache=cache, half=half)
        terms = " + ".join(f"{weight:g} · {name}" for name, weight in fitted.weights.items())
        typer.echo(f"score = sigmoid({terms} + {fitted.intercept:g}), threshold {fitted.threshold:g}")
        typer.echo(f"{folder}: model {model_id(folder)}")
