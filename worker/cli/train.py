"""`entityclip train`: a thin wrapper of what `model` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import CacheOption, model_errors
from worker.errors import FatalError

EXAMPLE = (
    "Example: entityclip train --preset published --data n24news:N24News --output runs/n24news. "
    "Several GPUs: torchrun --nproc-per-node 8 --no-python entityclip train …"
)


def train(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The run's folder; a run found there is resumed.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "--preset",
            metavar="NAME|FILE",
            help="published, default, tiny-names, tiny, or a file.  [default with --data, else tiny-names]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="KIND:PATH|DIR|flagnews",
            help="A data set (n24news, visualnews, goodnews, mbeir, jsonl) or a prepared folder.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init", metavar="MODEL", help="Start weights: a checkpoint, open_clip:NAME/TAG or hf-hub:…"
        ),
    ] = None,
    cache: CacheOption = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="In place of the recipe's.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.0, help="In place of --steps.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help="Of all processes together.")
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            "--micro-batch", min=0, help="Rows a process encodes at once, for batches beyond memory."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="bf16|fp32", help="In place of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="In place of the recipe's.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="torch device.  [the GPU where there is one]"),
    ] = None,
) -> None:
    """Train a checkpoint by a recipe; resumable to the step."""
    from model.training.command import train as train_model
    from model.training.loop import TrainingError
    from model.world import PeerLost

    given = {
        "data": data,
        "init": init,
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
        "precision": precision,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    name = recipe or ("tiny-names" if data in (None, "flagnews") else "default")
    with model_errors():
        try:
            best = train_model(name, output, cache=cache, changes=changes, device=device, announce=_announce)
        except (TrainingError, PeerLost) as exc:
            raise FatalError(str(exc)) from exc
    if best is not None:
        typer.echo(f"best checkpoint: {best}\nnext: entityclip evaluate --checkpoint {best}")


def _announce(line: str) -> None:
    typer.echo(line, err=True)
