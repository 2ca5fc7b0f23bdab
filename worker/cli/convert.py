"""`entityclip convert`: a thin wrapper of what `model` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.model_options import model_errors

EXAMPLE = "Example: entityclip convert epoch_best.pt entityclip-n24news"


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A published .pt file, open_clip:NAME/TAG or hf-hub:ORG/NAME."),
    ],
    output: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The checkpoint folder to write.", show_default=False)
    ] = None,
    output_option: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="The same, as an option.")
    ] = None,
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            metavar="IET",
            help="Image, explanation, text experts: 444 or 12,4,4.  [what the weights hold, else 444]",
        ),
    ] = None,
) -> None:
    """Turn a published EntityCLIP .pt file, or an open_clip model, into a checkpoint folder."""
    folder = output or output_option
    if folder is None or (output and output_option):
        raise typer.BadParameter("name one folder to write: entityclip convert SOURCE DIR")
    from model.checkpoint import model_id
    from model.sources.convert import convert as convert_weights

    with model_errors():
        convert_weights(source, folder, experts)
        typer.echo(f"{folder}: model {model_id(folder)}")
