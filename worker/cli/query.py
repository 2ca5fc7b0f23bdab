"""`entityclip query`: ask the store with a text or a picture."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import ConfigOption, DeviceOption, ModelOption, StoreOption, parse_since, read_config
from worker.errors import ConfigError, InvalidPost

if TYPE_CHECKING:
    from worker.config import Config
    from worker.media import MediaStore
    from worker.query.search import Answer, Query

EXAMPLE = 'Example: entityclip query "Saint Lucia" --since 7d --store entityclip-store'


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


def query(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A name or a sentence.")] = "",
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Ask with a picture.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="Hits of each kind, at most.")] = 10,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="SPAN|DATE", help="Only posts since: 90m, 12h, 7d, 2w, or 2026-01-31 (UTC)."
        ),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="Only of this source; repeatable.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where it goes.  [standard output]")
    ] = None,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> None:
    """Find pictures and texts about what a text names or a picture shows.

    Reads only; workers may write to the same store meanwhile. Nothing found is no error.
    """
    asked = _question(text, image, top, since, source)
    settings = read_config(config, {"store": store, "model": model, "device": device})
    from worker.query.search import run_query

    try:
        answer = run_query(
            asked,
            settings.store,
            settings.alias,
            settings.model,
            api_key=settings.store_api_key,
            device=settings.device,
        )
    except InvalidPost as error:  # the picture that was asked with, not a post
        raise typer.BadParameter(error.detail) from error
    if not answer.found:
        print("entityclip: nothing found", file=sys.stderr)
    _write(asked, answer, format_, output, settings)


def _question(text: str, image: Path | None, top: int, since: str | None, source: list[str] | None) -> Query:
    from worker.query.search import Query

    moment = parse_since(since)
    try:
        return Query(text=text, image=image, top=top, since=moment, sources=tuple(source or ()))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _write(asked: Query, answer: Answer, format_: Format, output: Path | None, settings: Config) -> None:
    from worker.query.output import answer_html, answer_json, print_answer

    if format_ is Format.TABLE and output is None:
        if answer.found:
            print_answer(asked, answer)
        return
    try:
        if format_ is Format.TABLE and output is not None:
            with output.open("w", encoding="utf-8") as file:
                print_answer(asked, answer, file=file)
            return
        page = (
            answer_json(asked, answer)
            if format_ is Format.JSON
            else answer_html(asked, answer, _media(settings))
        )
        if output is None:
            typer.echo(page)
        else:
            output.write_text(page + "\n", encoding="utf-8", errors="replace")
            typer.echo(f"written to {output}")
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror or error}") from error


def _media(settings: Config) -> MediaStore | None:
    """The media store, if there is one already: a query makes none."""
    from worker.media import existing_media
    from worker.query.output import default_media_store

    return existing_media(settings.media_store or default_media_store(settings.store))
