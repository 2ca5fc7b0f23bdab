"""`entityclip prepare`: a thin wrapper of what `model` does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.model_options import model_errors
from worker.errors import ExitCode
from worker.printable import one_line

if TYPE_CHECKING:
    from model.data.prepared_form import PreparedFacts

EXAMPLE = "Example: entityclip prepare n24news:/data/N24News --output prepared/n24news"


def prepare(
    data: Annotated[
        str,
        typer.Argument(metavar="KIND:PATH", help="KIND: n24news, visualnews, goodnews, mbeir or jsonl."),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder to make.")],
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="train, val or test; may be repeated.  [all three]"),
    ] = None,
    max_side: Annotated[
        int, typer.Option("--max-side", min=16, max=4096, help="Bound of a picture's shorter side, pixels.")
    ] = 384,
    quality: Annotated[
        int, typer.Option("--quality", min=1, max=95, help="Of the JPEGs that are made anew.")
    ] = 90,
    explanations: Annotated[
        Path | None,
        typer.Option("--explanations", metavar="FILE", help="In place of the data set's own explanations."),
    ] = None,
    near_duplicates: Annotated[
        str,
        typer.Option(
            "--near-duplicates", metavar="drop|keep", help="Pictures of train that are also in val or test."
        ),
    ] = "drop",
) -> int:
    """Read a data set once and keep what training and evaluation need of it.

    Pictures become JPEGs of bounded size, each different one stored once; a tar is read as a stream. What
    cannot be used is counted by reason. A run that was interrupted goes on where it was.
    """
    from model.data.prepare import PrepareOptions
    from model.data.prepare import prepare as prepare_data

    with model_errors():
        options = PrepareOptions(
            **({"splits": tuple(dict.fromkeys(split))} if split else {}),
            max_side=max_side,
            quality=quality,
            explanations=explanations,
            near_duplicates=near_duplicates,
        )
        try:
            facts = prepare_data(data, output, options)
        except KeyboardInterrupt:
            print(
                f"interrupted; what is done is kept in {output}.part, run it again to go on", file=sys.stderr
            )
            return ExitCode.INTERRUPTED
    _print_facts(facts, output)
    return ExitCode.DONE


def _print_facts(facts: PreparedFacts, output: Path) -> None:
    from worker.tables import Column, print_table

    splits = facts.splits.values()
    reasons = sorted({reason for split in splits for reason in split.left_out})
    counts = {
        "rows read": [split.read for split in splits],
        **{
            f"- {reason.replace('_', ' ')}": [split.left_out.get(reason, 0) for split in splits]
            for reason in reasons
        },
        "rows used": [split.rows for split in splits],
        "with an explanation": [split.explained for split in splits],
        "different pictures": [split.pictures for split in splits],
    }
    rows = [[title, *(f"{count:,}" for count in numbers)] for title, numbers in counts.items()]
    print_table([Column(facts.dataset), *(Column(name, align="right") for name in facts.splits)], rows)
    for name, of_split in facts.splits.items():
        for line in [*of_split.notes, *of_split.examples]:
            typer.echo(f"{name}: {one_line(line)}")
    if twins := sum(split.near_duplicates for split in splits):
        done = "left out" if facts.near_duplicates == "drop" else "kept, as asked"
        typer.echo(f"train: {twins} pictures are, nearly, also in val or test; {done}")
    kept, came = sum(facts.shards) / 1e6, facts.source_bytes / 1e6
    typer.echo(f"{output}: the pictures take {kept:,.1f} MB, as they came {came:,.1f} MB")
