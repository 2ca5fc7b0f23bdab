"""`entityclip train`: a thin wrapper of what `model` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import CacheOption, model_errors
from worker.errors import FatalError

EXAMPLE = "Example: entityclip train --recipe tiny --output runs/tiny"


def train(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The run's folder; a run found there is resumed.")
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="A shipped recipe or a TOML file.")
    ] = "tiny",
    cache: CacheOption = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="In place of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="In place of the recipe's.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="torch device.  [the GPU where there is one]"),
    ] = None,
) -> None:
    """Train a checkpoint by a recipe; resumable to the step."""
    from model.training.command import train as train_model
    from model.training.loop import TrainingError

    with model_errors():
        try:
            best = train_model(recipe, output, cache=cache, steps=steps, seed=seed, device=device)
        except TrainingError as exc:
            raise FatalError(str(exc)) from exc
    typer.echo(f"best checkpoint: {best}\nnext: entityclip evaluate --checkpoint {best}")
