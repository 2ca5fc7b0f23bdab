"""`entityclip convert`: a thin wrapper of what `model` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import model_errors

EXAMPLE = "Example: entityclip convert epoch_best.pt --output entityclip-n24news"


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

    with model_errors():
        convert_weights(weights, output, experts)
        typer.echo(f"{output}: model {model_id(output)}")
