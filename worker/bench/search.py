"""`entityclip bench search`: the embedded store's recall, latency and rates, beside an exact scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.bench.command_line import command_line
from worker.bench.report import Report, print_report, write_json
from worker.cli.model_options import CacheOption, check_outputs, model_errors

if TYPE_CHECKING:
    from worker.bench.search_vectors import SearchVectors
    from worker.bench.search_ways import Answers

EXAMPLE = (
    "Example: entityclip bench search; among real texts, with TEXTS/load/texts.jsonl.gz: "
    "entityclip bench search --data TEXTS --points 1000 --points 10000 --points 100000 --least 0.98"
)
_TOO_LOW = 1


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is measured.

    Args:
        points: of each store, half of them pictures, half texts.
        queries: of each direction.
        dim: of drawn vectors.
        data: folder that holds `load/texts.jsonl.gz`, in place of drawn vectors; None for these.
        model: checkpoint that encodes the texts and FlagNews pictures.
        batch: queries a request, of the way that asks many at once.
    """

    points: tuple[int, ...] = (1000, 20_000)
    queries: int = 256
    rounds: int = 3
    dim: int = 512
    data: Path | None = None
    model: str = "tiny"
    batch: int = 64
    cache: Path | None = None


def search(
    points: Annotated[
        list[int] | None,
        typer.Option(
            "--points",
            min=2,
            help="Of a store; may be repeated. From 20,000 on it builds search graphs.  [1000, 20000]",
        ),
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Of each direction.")] = 256,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of all ways, in turns.")] = 3,
    dim: Annotated[int, typer.Option("--dim", min=2, help="Of drawn vectors.")] = 512,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Holds load/texts.jsonl.gz: its texts and FlagNews pictures.  [drawn vectors]",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="tiny|DIR", help="Encodes what --data names.")
    ] = "tiny",
    batch: Annotated[int, typer.Option("--batch", min=1, max=64, help="Queries a request of many.")] = 64,
    least: Annotated[
        float,
        typer.Option("--least", min=0, max=1, help="Exit with 1 below this recall@10 at the largest size."),
    ] = 0.0,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the numbers go too.  [nowhere]")
    ] = None,
    cache: CacheOption = None,
) -> int:
    """Searches a second, latency and recall@10 of the embedded store, beside an exact scan."""
    check_outputs(json, None)
    sizes = tuple(points or SearchOptions().points)
    options = SearchOptions(sizes, queries, rounds, dim, data, model, batch, cache)
    with model_errors():
        report, answers = bench_search(options, command_line())
        print_report(report)
        if json is not None:
            write_json(report, json)
    low = [row for row in answers if row.points == max(sizes) and row.recall < least]
    for row in low:
        typer.echo(f"recall@10 of {row.direction} is {row.recall:.4f}, below {least}", err=True)
    return _TOO_LOW if low else 0


def bench_search(options: SearchOptions, command: str) -> tuple[Report, list[Answers]]:
    """Fill and ask a store of each size; blocks for minutes.

    Raises:
        ValueError: more points than there are texts or pictures.
        OSError: no such data or model.
        WorkerError: the store failed.
    """
    from worker.bench.machine import this_machine
    from worker.bench.search_report import search_report
    from worker.bench.search_store import filled_store
    from worker.bench.search_ways import ask

    vectors = _vectors(options)
    loaded, answers = [], []
    for count in options.points:
        with filled_store(vectors, count) as (store, filled):
            loaded.append(filled)
            answers += [
                ask(store, direction, options.rounds, options.batch, filtered=filtered)
                for filtered in (False, True)
                for direction in vectors.queries
            ]
    settings: dict[str, str | int | float | bool] = {
        "vectors": "drawn" if options.data is None else f"of {options.model}",
        "dim": vectors.images.shape[1],
        "queries": options.queries,
        "rounds": options.rounds,
        "queries in a request of many": options.batch,
    }
    return search_report(loaded, answers, command, this_machine(), settings), answers


def _vectors(options: SearchOptions) -> SearchVectors:
    from worker.bench.search_vectors import drawn_vectors, encoded_vectors

    each = max(options.points) // 2
    if options.data is None:
        return drawn_vectors(options.dim, each, options.queries)
    vectors = encoded_vectors(options.model, options.data, each, options.queries, options.cache)
    if each > min(len(vectors.images), len(vectors.texts)):
        stored = f"{len(vectors.images)} pictures and {len(vectors.texts)} texts"
        raise ValueError(f"{2 * each} points asked for, of {stored}")
    return vectors
