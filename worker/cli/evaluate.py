"""`entityclip evaluate`: a thin wrapper of what `model` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import CacheOption, CheckpointOption, model_errors

EXAMPLE = "Example: entityclip evaluate --checkpoint runs/tiny/best --output recall.json"


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

    with model_errors():
        result = command.evaluate(checkpoint, data, cache=cache, photos=photos)
        if output is not None:
            output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if record:
            command.record(checkpoint, result)
    header, *rows = recall_rows(result)
    print_table([Column(header[0]), *(Column(title, align="right") for title in header[1:])], rows)
