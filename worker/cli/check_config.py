"""`entityclip check-config`: what the configuration says, secrets left out."""

from __future__ import annotations

import json

import typer

from worker.cli.options import ConfigOption, read_config

EXAMPLE = "Example: ENTITYCLIP_MATCH__TOP_K=50 entityclip check-config --config worker.toml"


def check_config(config: ConfigOption = None) -> None:
    """Read the configuration as `run` would and print it, secrets replaced by ***."""
    typer.echo(json.dumps(read_config(config, {}).redacted(), indent=2, ensure_ascii=False))
