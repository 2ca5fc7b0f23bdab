"""`entityclip migrate`: change the model behind the alias while workers run and queries go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import INCOMPLETE, ConfigOption, DeviceOption, StoreOption, read_config
from worker.errors import ExitCode

if TYPE_CHECKING:
    from worker.config import Config
    from worker.migrate.backfill import BackfillReport
    from worker.migrate.collection import Route
    from worker.migrate.compare import Comparison
    from worker.migrate.switch import Readiness

PLAN_EXAMPLE = "Example: entityclip migrate plan --to models/next --config worker.toml"
BACKFILL_EXAMPLE = "Example: entityclip migrate backfill --to models/next --config worker.toml"
COMPARE_EXAMPLE = "Example: entityclip migrate compare --to models/next --queries 200 --json"
CUTOVER_EXAMPLE = "Example: entityclip migrate cutover --to models/next --config worker.toml"
ROLLBACK_EXAMPLE = "Example: entityclip migrate rollback --to models/old --config worker.toml"

app = typer.Typer(
    help="Change the model behind the alias while workers run.",
    epilog="In this order: start every worker anew with next_model set, then plan, backfill, compare, "
    "cutover; rollback for as long as both are written; at last, start the workers with the new model alone.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
ToOption = Annotated[
    str, typer.Option("--to", metavar="tiny|DIR", help="Checkpoint of the model that is to be served.")
]
AllowMissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Also without the points that this model cannot encode.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also while no worker, or not every one, writes both collections.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


@app.callback()
def _group() -> None:
    """The group has no options of its own."""


@app.command("plan", epilog=PLAN_EXAMPLE)
def plan(
    to: ToOption,
    sample: Annotated[
        int, typer.Option("--sample", min=1, max=100_000, help="Points that the new model is tried on.")
    ] = 128,
    json_: JsonOption = False,
    store: StoreOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> None:
    """Say what there is to copy, how long that takes, and who writes both collections. Reads only."""
    from worker.migrate.opening import open_media, open_reencoder, open_route
    from worker.migrate.output import plan_json, print_plan
    from worker.migrate.plan import make_plan
    from worker.migrate.roster import live_workers

    settings = read_config(config, {"store": store, "device": device})
    with open_route(settings, to) as (opened, route, _):
        if _is_served(route):
            return
        workers = live_workers(opened, settings.alias)
        media = open_media(settings)
        found = make_plan(route, workers, open_reencoder(settings, to, media), media, sample=sample)
    if json_:
        typer.echo(plan_json(found))
    else:
        print_plan(found)


@app.command("backfill", epilog=BACKFILL_EXAMPLE)
def backfill(
    to: ToOption,
    batch: Annotated[int, typer.Option("--batch", min=1, max=256, help="Points encoded at once.")] = 128,
    store: StoreOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> int:
    """Encode what the new model's collection lacks, from the stored texts and the media store.

    Workers go on meanwhile. A run that was stopped goes on where it was. Exit code 1: the new model has no
    vector for some points; the output says why.
    """
    from worker.index import VectorIndex, alias_target
    from worker.migrate.backfill import Backfill
    from worker.migrate.opening import open_media, open_reencoder, open_route

    settings = read_config(config, {"store": store, "device": device})
    with open_route(settings, to) as (opened, route, info):
        if _is_served(route):
            return ExitCode.DONE
        reencode = open_reencoder(settings, to, open_media(settings))
        VectorIndex(opened, settings.alias, info.id, info.dim).create_collection()
        with _progress("backfill", sum(route.source.counts().values())) as on_points:
            report = Backfill(
                route.source,
                route.target,
                reencode,
                lambda: alias_target(opened, settings.alias) == route.source.name,
                batch=batch,
                on_points=on_points,
            ).run()
    for line in _report_lines(report, route):
        typer.echo(line)
    return INCOMPLETE if report.failed else ExitCode.DONE


@app.command("compare", epilog=COMPARE_EXAMPLE)
def compare(
    to: ToOption,
    queries: Annotated[
        int, typer.Option("--queries", min=1, max=100_000, help="Stored texts, and as many pictures.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    json_: JsonOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Ask both collections with a sample of what they hold, and say how far the answers agree."""
    from model.calibration import Calibration
    from worker.migrate.compare import compare as compare_collections
    from worker.migrate.opening import check_target, open_route, source_model
    from worker.migrate.output import print_comparisons

    settings = read_config(config, {"store": store})
    with open_route(settings, to) as (_, route, info):
        if _is_served(route):
            return
        check_target(route)
        scales = (
            Calibration.of(source_model(settings, route).matching, settings.match.threshold),
            Calibration.of(info.matching, settings.match.threshold),
        )
        found: list[Comparison] = compare_collections(
            route.source, route.target, scales, questions=queries, seed=seed
        )
    if json_:
        content = {"old_model": route.source_model, "new_model": route.target_model}
        typer.echo(json.dumps(content | {"questions": [item.as_dict() for item in found]}, indent=2))
    else:
        print_comparisons(found)


@app.command("cutover", epilog=CUTOVER_EXAMPLE)
def cutover(
    to: ToOption,
    allow_missing: AllowMissingOption = False,
    force: ForceOption = False,
    store: StoreOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> int:
    """Point the alias at the new model's collection, in one step, if it holds everything.

    Every live worker must write both collections. Exit code 1: something speaks against it; nothing was done.
    """
    settings = read_config(config, {"store": store, "device": device})
    return _switch(settings, to, "rollback", allow_missing=allow_missing, force=force)


@app.command("rollback", epilog=ROLLBACK_EXAMPLE)
def rollback(
    to: ToOption,
    allow_missing: AllowMissingOption = False,
    force: ForceOption = False,
    store: StoreOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> int:
    """Point the alias back at the old model's collection, after the same checks as a cutover.

    For as long as the workers write both collections. Exit code 1: something speaks against it.
    """
    settings = read_config(config, {"store": store, "device": device})
    return _switch(settings, to, "cutover", allow_missing=allow_missing, force=force)


def _switch(settings: Config, to: str, undo: str, *, allow_missing: bool, force: bool) -> int:
    from worker.index import VectorIndex
    from worker.migrate.opening import check_target, open_media, open_reencoder, open_route
    from worker.migrate.roster import live_workers
    from worker.migrate.switch import find_gap, readiness

    with open_route(settings, to) as (opened, route, info):
        if _is_served(route):
            return ExitCode.DONE
        check_target(route)
        points = sum(route.source.counts().values()) + sum(route.target.counts().values())
        with _progress("comparing", points) as on_points:
            gap = find_gap(route.source, route.target, on_points=on_points)
        found: Readiness = readiness(
            route,
            gap,
            lambda: live_workers(opened, settings.alias),
            lambda: open_reencoder(settings, to, open_media(settings)),
            allow_missing=allow_missing,
            force=force,
        )
        for line in found.objections:
            typer.echo(f"entityclip: not yet: {line}", err=True)
        if found.objections:
            return INCOMPLETE
        VectorIndex(opened, settings.alias, info.id, info.dim).take_alias()
    typer.echo(
        f"the alias {settings.alias} names model {route.target_model} now; before, {route.source_model}"
    )
    typer.echo(f"to undo it: entityclip migrate {undo} --to FOLDER-OF-{route.source_model}")
    return ExitCode.DONE


def _is_served(route: Route) -> bool:
    """Say so where there is nothing to do."""
    if route.is_done:
        typer.echo(f"the alias names model {route.target_model} already; nothing to do")
    return route.is_done


@contextmanager
def _progress(doing: str, total: int) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    with tqdm(total=total, desc=doing, unit="point", file=sys.stderr, disable=None, leave=False) as bar:
        yield bar.update


def _report_lines(report: BackfillReport, route: Route) -> Iterator[str]:
    yield (
        f"{report.inserted} points inserted into {route.target.name}, {report.present} there before, "
        f"{report.removed} removed again"
    )
    for reason, number in sorted(report.failed.items()):
        yield f"{number} points have no vector: {reason}"
