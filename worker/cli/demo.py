"""`entityclip demo`: everything once, with nothing set up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, ModelOption
from worker.errors import ExitCode

EXAMPLE = "Example: entityclip demo --seed 7 --store entityclip-store"


def demo(
    posts: Annotated[
        Path | None,
        typer.Option("--posts", metavar="FILE|DIR", help="Your own: a JSONL file, or images with captions."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the page goes.")] = Path(
        "entityclip-demo.html"
    ),
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="DIR|URL", help="Keep what is stored.  [a temporary folder]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawn posts.")] = 0,
    model: ModelOption = None,
    config: ConfigOption = None,
) -> int:
    """Run the real pipeline over a stream of posts drawn on the spot, and write a page.

    Needs no server, key, GPU or network.
    """
    from worker.demo.show import DemoOptions, show

    stopped = show(DemoOptions(posts, output, store, model, seed, config))
    return ExitCode.INTERRUPTED if stopped else ExitCode.DONE
