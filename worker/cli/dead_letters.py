"""`entityclip dead-letters`: what was refused, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from worker.errors import ConfigError, Reason

EXAMPLE = "Example: entityclip dead-letters list matches.jsonl.dead --reason image_too_large"

app = typer.Typer(help="Look at posts that were refused.", rich_markup_mode=None, no_args_is_help=False)


@app.callback()
def _group() -> None:
    """The group has no options of its own."""


@app.command("list", epilog=EXAMPLE)
def list_letters(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `run` wrote dead letters to.")],
    reason: Annotated[
        Reason | None, typer.Option("--reason", metavar="REASON", help="Only those refused for this.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Letters shown, at most.")] = 50,
) -> None:
    """Count the dead letters of a file by reason and show them."""
    from worker.dead_letters import read_dead_letters
    from worker.printable import excerpt
    from worker.tables import Column, print_heading, print_table

    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    counts: Counter[str] = Counter()
    shown: list[tuple[str, str, str, str]] = []
    for letter in read_dead_letters(path):
        if reason is not None and letter.reason != reason:
            continue
        counts[letter.reason] += 1
        if len(shown) < top:
            shown.append((str(letter.offset), letter.reason, letter.detail, excerpt(letter.raw())))
    if not counts:
        typer.echo("no dead letters")
        return
    print_heading("By reason")
    print_table(
        (Column("reason"), Column("posts", "right")),
        [(name, str(count)) for name, count in counts.most_common()],
    )
    print_heading(f"{len(shown)} of {counts.total()}")
    print_table(
        (Column("offset", "right"), Column("reason"), Column("detail", wide=True), Column("post", wide=True)),
        shown,
    )
