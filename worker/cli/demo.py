"""`entityclip demo`: everything once, with nothing set up; or its posts into a topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, ModelOption
from worker.errors import ExitCode

EXAMPLE = "Example: entityclip demo --seed 7 --store entityclip-store"
_PAGE = Path("entityclip-demo.html")


def demo(
    posts: Annotated[
        Path | None,
        typer.Option("--posts", metavar="FILE|DIR", help="Your own: a JSONL file, or images with captions."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help=f"Where the page goes.  [{_PAGE}]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="DIR|URL", help="Keep what is stored.  [a temporary folder]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawn posts.")] = 0,
    model: ModelOption = None,
    to: Annotated[
        str | None,
        typer.Option("--send", metavar="kafka:TOPIC", help="Only send the drawn posts, to other workers."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="With --send: posts a second.  [as they are taken]"),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=0, help="With --send: streams, each of another seed; 0: for ever.  [1]"),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Run the real pipeline over a stream of posts drawn on the spot, and write a page.

    Needs no server, key, GPU or network. With --send it only feeds a topic that `entityclip run` reads.
    """
    if to is not None:
        _refuse("--send", posts=posts, output=output, store=store, model=model)
        return _send(to, seed, rate, rounds, config)
    if rate is not None or rounds is not None:
        raise typer.BadParameter("--rate and --rounds go with --send")
    from worker.demo.show import DemoOptions, show

    stopped = show(DemoOptions(posts, output or _PAGE, store, model, seed, config))
    return ExitCode.INTERRUPTED if stopped else ExitCode.DONE


def _refuse(beside: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} does not go with {beside}")


def _send(to: str, seed: int, rate: float | None, rounds: int | None, config: Path | None) -> int:
    if rate is not None and not 0 < rate <= 1e6:
        raise typer.BadParameter(f"--rate is a number of posts a second above 0, not {rate:g}")
    from worker.demo.send import SendOptions, send

    stopped = send(SendOptions(to, seed, rate, 1 if rounds is None else rounds, config))
    return ExitCode.INTERRUPTED if stopped else ExitCode.DONE
