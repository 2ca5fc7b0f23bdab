"""Options that several commands share, and how they become configuration."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worker.config import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file; ENTITYCLIP_* variables and options override it."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="tiny|DIR", help="Checkpoint: the one that ships, or a folder.  [tiny]"),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="DIR|URL", help="Folder of an embedded store, or a Qdrant URL.  [entityclip-store]"
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="torch device: cpu, cuda, cuda:1 …  [cpu]")
]

INCOMPLETE = 1  # exit code of a command that could not do it for some of what it was to do it for

_UNIT = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST_DAYS = 36_500


def read_config(path: Path | None, overrides: dict[str, object]) -> Config:
    """Defaults, file, environment, then these options; a None is an option that was not given.

    Raises:
        ConfigError: as `worker.config.load_config`.
    """
    from worker.config import load_config

    return load_config(path, overrides)


def parse_since(value: str | None, now: datetime | None = None) -> datetime | None:
    """`90m`, `12h`, `7d`, `2w` before now, or a date or time of ISO 8601 (UTC where it says nothing).

    Raises:
        typer.BadParameter: neither.
    """
    if value is None:
        return None
    text = value.strip()
    if match := re.fullmatch(r"(\d{1,7})([mhdw])", text):
        span = timedelta(**{_UNIT[match[2]]: int(match[1])})
        if span <= timedelta(days=_MOST_DAYS):
            return (now or datetime.now(UTC)) - span
    else:
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise typer.BadParameter(f"{value!r} is neither a span (90m, 12h, 7d, 2w) nor a date (2026-01-31)")
