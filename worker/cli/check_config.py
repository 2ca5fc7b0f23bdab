"""`entityclip check-config`: what the configuration says, secrets left out, and whether all of it answers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, read_config
from worker.errors import ExitCode

EXAMPLE = "Example: ENTITYCLIP_MATCH__TOP_K=50 entityclip check-config --config worker.toml"

_WORDS = {
    ExitCode.DONE: "ok",
    ExitCode.UNAVAILABLE: "away",
    ExitCode.CONFIG: "wrong",
    ExitCode.INTERNAL: "failed",
}


def check_config(
    config: ConfigOption = None,
    connect: Annotated[
        bool, typer.Option("--connect/--no-connect", help="Test every connection that it names.")
    ] = True,
) -> int:
    """Print the configuration as `run` would read it, secrets replaced by ***, and test what it names.

    The configuration goes to standard output as JSON; one line for each of the vector store, Kafka, Redis,
    the LLM, the media store and each model goes to standard error. Exit code 78 if any of them cannot work
    as configured, 70 if one failed or the store belongs to another model, 69 if one is away.
    """
    settings = read_config(config, {})
    typer.echo(json.dumps(settings.redacted(), indent=2, ensure_ascii=False))
    if not connect:
        return ExitCode.DONE
    from worker.checks.connections import run_checks
    from worker.observe.logs import configure_logging

    configure_logging(settings.log_level, libraries=False)
    worst: int = ExitCode.DONE
    for result in run_checks(settings):
        typer.echo(f"{_WORDS.get(result.code, 'failed'):<7}{result.name}: {result.detail}", err=True)
        worst = max(worst, result.code)
    return worst
