"""`entityclip train`, `evaluate`, `calibrate` and `convert`: thin wrappers of what `model` does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from worker.errors import ConfigError, FatalError

TRAIN_EXAMPLE = "Example: entityclip train --recipe tiny --output runs/tiny"
EVALUATE_EXAMPLE = "Example: entityclip evaluate --checkpoint runs/tiny/best --output recall.json"
CONVERT_EXAMPLE = "Example: entityclip convert epoch_best.pt --output entityclip-n24news"

CALIBRATE_EXAMPLE = "Example: entityclip calibrate --checkpoint runs/tiny/best --output tiny --half"

CheckpointOption = Annotated[
    str, typer.Option("--checkpoint", metavar="tiny|DIR", help="The one that ships, or a folder.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where drawn pictures are kept.  [~/.cache/entityclip]"),
]


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

    with _model_errors():
        try:
            best = train_model(recipe, output, cache=cache, steps=steps, seed=seed, device=device)
        except TrainingError as exc:
            raise FatalError(str(exc)) from exc
    typer.echo(f"best checkpoint: {best}\nnext: entityclip evaluate --checkpoint {best}")


def evaluate(
    checkpoint: CheckpointOption = "tiny",
    data: Annotated[
        str, typer.Option("--data", metavar="flagnews|flagnews-photo", help="What to measure on.")
    ] = "flagnews",
    photos: Annotated[
        Path | None,
        typer.Option("--photos", metavar="DIR", help="For flagnews-photo: holds pairs.jsonl and images/."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where the JSON goes.  [nowhere]")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the results into the checkpoint's config.json.")
    ] = False,
    cache: CacheOption = None,
) -> None:
    """Measure a checkpoint's recall in both directions, beside chance and a colour histogram."""
    from model.evaluation import command
    from model.evaluation.report import recall_rows
    from worker.tables import Column, print_table

    with _model_errors():
        result = command.evaluate(checkpoint, data, cache=cache, photos=photos)
        if output is not None:
            output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if record:
            command.record(checkpoint, result)
    header, *rows = recall_rows(result)
    print_table([Column(header[0]), *(Column(title, align="right") for title in header[1:])], rows)


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

    with _model_errors():
        folder = output or resolve(checkpoint)
        fitted = command.calibrate(checkpoint, folder, cache=cache, half=half)
        typer.echo(
            f"score = sigmoid({fitted.slope:g} · cosine + {fitted.intercept:g}), "
            f"threshold {fitted.threshold:g}"
        )
        typer.echo(f"{folder}: model {model_id(folder)}")


def convert(
    weights: Annotated[Path, typer.Argument(metavar="FILE", help="The published .pt state dict.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="The checkpoint folder to write.")],
    experts: Annotated[
        str, typer.Option("--experts", metavar="IET", help="Image, explanation, text experts: three digits.")
    ] = "444",
) -> None:
    """Turn a published EntityCLIP .pt file into a checkpoint folder."""
    from model.checkpoint import model_id
    from model.convert import convert as convert_weights

    with _model_errors():
        convert_weights(weights, output, experts)
        typer.echo(f"{output}: model {model_id(output)}")


@contextmanager
def _model_errors() -> Iterator[None]:
    """What `model` says about its input becomes a configuration error of one line."""
    try:
        yield
    except (ValueError, OSError) as exc:
        raise ConfigError(str(exc)) from exc
