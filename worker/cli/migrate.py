"""`entityclip migrate`: change the model behind the alias while workers run and queries go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import INCOMPLETE, ConfigOption, DeviceOption, StoreOption, read_config
from worker.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from worker.config import Config
    from worker.media import MediaStore
    from worker.migrate.backfill import BackfillReport
    from worker.migrate.collection import Route
    from worker.migrate.compare import Comparison
    from worker.migrate.reencode import Reencoder
    from worker.migrate.switch import Readiness
    from worker.model_info import ModelInfo
    from worker.store.client import Store

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
    from worker.migrate.output import plan_json, print_plan
    from worker.migrate.plan import make_plan
    from worker.migrate.roster import live_workers

    settings = read_config(config, {"store": store, "device": device})
    with _opened(settings, to) as (opened, route, _):
        if _is_served(route):
            return
        workers = live_workers(opened, settings.alias)
        media = _media(settings)
        found = make_plan(route, workers, _reencoder(settings, to, media), media, sample=sample)
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
    from worker.index import VectorIndex
    from worker.migrate.backfill import Backfill

    settings = read_config(config, {"store": store, "device": device})
    with _opened(settings, to) as (opened, route, info):
        if _is_served(route):
            return ExitCode.DONE
        reencode = _reencoder(settings, to, _media(settings))
        VectorIndex(opened, settings.alias, info.id, info.dim).create_collection()
        with _progress(sum(route.source.counts().values())) as on_points:
            run = Backfill(route.source, route.target, reencode, batch=batch, on_points=on_points)
            report = run.run()
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
    from worker.migrate.output import print_comparisons

    settings = read_config(config, {"store": store})
    with _opened(settings, to) as (_, route, info):
        if _is_served(route):
            return
        _check_target(route)
        scales = (
            Calibration.of(_old_model(settings, route).matching, settings.match.threshold),
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
    from worker.migrate.roster import live_workers
    from worker.migrate.switch import find_gap, move_alias, readiness

    with _opened(settings, to) as (opened, route, info):
        if _is_served(route):
            return ExitCode.DONE
        _check_target(route)
        found: Readiness = readiness(
            route,
            find_gap(route.source, route.target),
            live_workers(opened, settings.alias),
            lambda: _reencoder(settings, to, _media(settings)),
            allow_missing=allow_missing,
            force=force,
        )
        for line in found.objections:
            typer.echo(f"entityclip: not yet: {line}", err=True)
        if found.objections:
            return INCOMPLETE
        move_alias(VectorIndex(opened, settings.alias, info.id, info.dim))
    typer.echo(
        f"the alias {settings.alias} names model {route.target_model} now; before, {route.source_model}"
    )
    typer.echo(f"to undo it: entityclip migrate {undo} --to FOLDER-OF-{route.source_model}")
    return ExitCode.DONE


@contextmanager
def _opened(settings: Config, to: str) -> Iterator[tuple[Store, Route, ModelInfo]]:
    from worker.migrate.collection import find_route
    from worker.model_info import read_model
    from worker.observe.logs import configure_logging
    from worker.store.client import open_store

    configure_logging(settings.log_level, settings.log_format)
    info = read_model(to)
    with open_store(
        settings.store, api_key=settings.store_api_key, timeout_s=settings.store_timeout_s, create=False
    ) as opened:
        yield opened, find_route(opened, settings.alias, info.id, info.dim), info


def _is_served(route: Route) -> bool:
    """Say so where there is nothing to do."""
    if route.is_done:
        typer.echo(f"the alias names model {route.target_model} already; nothing to do")
    return route.is_done


def _check_target(route: Route) -> None:
    if not route.target.exists():
        raise ConfigError(
            f"there is no collection of model {route.target_model} yet: entityclip migrate backfill"
        )


def _old_model(settings: Config, route: Route) -> ModelInfo:
    """The served model's checkpoint, which is one of the two that the configuration names."""
    from worker.model_info import read_model

    for name in (settings.model, settings.next_model):
        if name is not None and (info := read_model(name)).id == route.source_model:
            return info
    raise ConfigError(
        f"the alias names model {route.source_model}, whose checkpoint is neither `model` nor `next_model` "
        "of the configuration: name it there (--config, or ENTITYCLIP_MODEL)"
    )


def _media(settings: Config) -> MediaStore | None:
    from worker.media import existing_media

    return existing_media(settings.media_store) if settings.media_store else None


def _reencoder(settings: Config, to: str, media: MediaStore | None) -> Reencoder:
    from worker.migrate.reencode import Reencoder
    from worker.serving import load_checkpoint, open_encoder

    checkpoint = load_checkpoint(to)
    encoder = open_encoder(checkpoint, settings)
    return Reencoder(encoder, checkpoint.model_id, checkpoint.config.preprocess.resize_mode, media)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    with tqdm(total=total, desc="backfill", unit="point", file=sys.stderr, disable=None, leave=False) as bar:
        yield bar.update


def _report_lines(report: BackfillReport, route: Route) -> Iterator[str]:
    yield (
        f"{report.inserted} points inserted into {route.target.name}, {report.present} there before, "
        f"{report.removed} removed again"
    )
    for reason, number in sorted(report.failed.items()):
        yield f"{number} points have no vector: {reason}"
