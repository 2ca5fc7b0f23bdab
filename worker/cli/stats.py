"""`entityclip stats`: what is in the collection."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, StoreOption, read_config

EXAMPLE = "Example: entityclip stats --store entityclip-store --days 30"


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"


def stats(
    store: StoreOption = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Days that are told apart.")] = 14,
    top: Annotated[
        int, typer.Option("--top", min=1, max=1000, help="Sources, languages and entities, at most.")
    ] = 10,
    format_: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.TABLE,
    config: ConfigOption = None,
) -> None:
    """Count the points by model, kind, source, language, day, explanation status and entity.

    Reads only, and no point in full; workers may go on meanwhile.
    """
    settings = read_config(config, {"store": store})
    from worker.stats.collect import collect
    from worker.stats.output import print_stats, stats_json
    from worker.store.client import open_store

    with open_store(
        settings.store, api_key=settings.store_api_key, timeout_s=settings.store_timeout_s, create=False
    ) as opened:
        found = collect(opened, settings.alias, days=days, top=top)
    if format_ is Format.JSON:
        typer.echo(stats_json(found))
    else:
        print_stats(found)
