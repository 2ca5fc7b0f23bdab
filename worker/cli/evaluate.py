"""`entityclip evaluate`: a thin wrapper of what `model` does."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.model_options import CacheOption, CheckpointOption, check_outputs, model_errors
from worker.errors import ConfigError

if TYPE_CHECKING:
    from model.evaluation.dataset_run import DataSetResult

EXAMPLE = (
    "Example: entityclip evaluate --checkpoint runs/n24news/best --data n24news:/data/N24News "
    "--output recall.json --plot recall.png"
)


class Split(StrEnum):
    """Which rows."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Explanations(StrEnum):
    """What the texts are given at test time."""

    TRUE = "true"
    NONE = "none"
    SHUFFLED = "shuffled"


def evaluate(
    checkpoint: CheckpointOption = "tiny",
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="KIND:PATH|DIR|flagnews|flagnews-photo",
            help="A data set (n24news, visualnews, goodnews, mbeir, jsonl), a prepared folder, or drawn "
            "pictures; several for a cross-dataset table.  [flagnews]",
        ),
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="Of a data set.")] = Split.TEST,
    rerank: Annotated[
        int | None,
        typer.Option("--rerank", metavar="K", min=0, help="First K that GI-ITM re-ranks; 0 for none.  [50]"),
    ] = None,
    explanations: Annotated[
        list[Explanations] | None,
        typer.Option("--explanations", help="At test time; may be repeated.  [all that the data has]"),
    ] = None,
    mix: Annotated[
        float | None,
        typer.Option(
            "--mix", min=0, max=1, help="Share of T* in variant Q.  [the best on the validation split]"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most N rows, a seeded draw.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where the JSON goes.  [nowhere]")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Where recall over k is drawn.  [nowhere]")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", metavar="DIR", help="For flagnews-photo: holds pairs.jsonl and images/."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the results into the checkpoint's config.json.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="torch device.  [the GPU where there is one]"),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures or texts at once.")] = 64,
    cache: CacheOption = None,
) -> None:
    """Measure retrieval in both directions, with and without explanations and re-ranking."""
    from model.evaluation import command
    from model.evaluation.dataset_run import Choices, DataSetResult
    from model.evaluation.plot import plot_recall

    chosen = Choices(
        split=split.value,
        explanations=None if not explanations else tuple(dict.fromkeys(each.value for each in explanations)),
        rerank=rerank,
        share=mix,
        limit=limit,
        device=device,
        batch_size=batch_size,
    )
    names = data or ["flagnews"]
    _check(names, output, plot, command.FLAGNEWS)
    with model_errors():
        if record:
            command.check_recordable(checkpoint)  # not after the work
        results = command.evaluate_each(checkpoint, names, chosen, cache=cache, photos=photos)
        measured = [result for result in results if isinstance(result, DataSetResult)]
        facts = [result.facts if isinstance(result, DataSetResult) else result for result in results]
        if output is not None:
            written = facts[0] if len(facts) == 1 else {"results": facts}
            output.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        if plot is not None:
            plot_recall(measured, plot)
        for each in facts if record else []:
            command.record(checkpoint, each)
    _print([each for each in facts if each["data"] in command.FLAGNEWS], measured)


def _check(data: list[str], output: Path | None, plot: Path | None, flagnews: tuple[str, ...]) -> None:
    """What would otherwise fail after the work is done.

    Raises:
        ConfigError: a folder not there, or in the file's place; an unknown kind of plot; nothing to plot.
    """
    check_outputs(output, plot)
    if plot is not None and not set(data) - set(flagnews):
        raise ConfigError("--plot draws data sets, not FlagNews")


def _print(flagnews: list[dict[str, Any]], data_sets: list[DataSetResult]) -> None:
    """Tables for a person: FlagNews each on its own, data sets side by side."""
    from model.evaluation import report

    for result in flagnews:
        _table(report.recall_rows(result))
    results: list[dict[str, Any]] = [each.facts for each in data_sets]
    for direction in ("image_to_text", "text_to_image") if results else ():
        _table(report.data_set_rows(results, direction))
        typer.echo()
    for facts in results:
        typer.echo("\n".join(report.data_set_lines(facts)))
        if facts["sections"] is not None:
            typer.echo(report.section_line(facts["sections"]))
            _table(report.section_rows(facts["sections"]))


def _table(rows: list[list[str]]) -> None:
    from worker.tables import Column, print_table

    header, *body = rows
    numbers = [all(_is_number(row[at]) for row in body) for at in range(len(header))]
    columns = [
        Column(title, align="right" if number else "left")
        for title, number in zip(header, numbers, strict=True)
    ]
    print_table(columns, body)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).isdigit()
