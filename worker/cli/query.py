"""`entityclip query`: ask the store with a text, a picture, or both."""

from __future__ import annotations

import io
import re
import sys
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import ConfigOption, DeviceOption, ModelOption, StoreOption, parse_since, read_config
from worker.errors import ConfigError, InvalidPost

if TYPE_CHECKING:
    from worker.config import Config
    from worker.media import MediaStore
    from worker.query.question import Query
    from worker.query.search import Answer

EXAMPLE = 'Example: entityclip query "Saint Lucia" --since 7d --explain --store entityclip-store'
_DAY = re.compile(r"\s*\d{4}-\d{2}-\d{2}\s*")


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


class OneKind(StrEnum):
    """Which hits are looked for, where it is not both."""

    IMAGE = "image"
    TEXT = "text"


def query(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A name or a sentence.")] = "",
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="FILE|URL", help="Ask with a picture, also beside a text."),
    ] = None,
    explanation: Annotated[
        str, typer.Option("--explanation", metavar="TEXT", help="How what the text names looks.")
    ] = "",
    llm: Annotated[
        bool,
        typer.Option("--llm/--no-llm", help="Ask the configured LLM for the explanation that is not given."),
    ] = True,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="Hits of each kind, at most.")] = 10,
    kind: Annotated[OneKind | None, typer.Option("--kind", help="Only hits of this kind.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="SPAN|DATE", help="Only posts since: 90m, 12h, 7d, 2w, or 2026-01-31 (UTC)."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="SPAN|DATE", help="Only posts until then; a day is taken whole."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="Only of this source; repeatable.")
    ] = None,
    lang: Annotated[
        list[str] | None, typer.Option("--lang", metavar="CODE", help="Only in this language; repeatable.")
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="NAME", help="Only posts that name this entity; repeatable."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what speaks for each hit.")] = False,
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

    With a text and a picture, a hit is ordered by its place in the answers to either. Reads only; workers may
    write to the same store meanwhile. Nothing found is no error.
    """
    settings = read_config(config, {"store": store, "model": model, "device": device})
    from worker.observe.logs import configure_logging
    from worker.query.filters import UnknownValue
    from worker.query.question import KINDS, Query
    from worker.query.search import run_query

    # what goes wrong is told in one line, once
    told = settings.log_level if settings.log_level in ("debug", "info") else "error"
    configure_logging(told, settings.log_format)
    try:
        asked = Query(
            text=text,
            image=image,
            explanation=explanation,
            top=top,
            kinds=tuple(each for each in KINDS if kind is None or each == kind.value),
            since=parse_since(since),
            until=_parse_until(until),
            sources=tuple(source or ()),
            langs=tuple(lang or ()),
            entities=tuple(entity or ()),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        answer = run_query(asked, settings, ask_llm=llm)
    except UnknownValue as error:
        raise typer.BadParameter(str(error)) from error
    except InvalidPost as error:  # the picture that was asked with, not a post
        raise typer.BadParameter(error.detail) from error
    for line in (answer.explained.note, "" if answer.found else "nothing found"):
        if line:
            print(f"entityclip: {line}", file=sys.stderr)
    _write(asked, answer, explain, format_, output, settings)


def _parse_until(value: str | None) -> datetime | None:
    """As `--since`, but a day is meant to its end."""
    moment = parse_since(value)
    if moment is None or value is None or not _DAY.fullmatch(value):
        return moment
    return moment + timedelta(days=1, microseconds=-1)


def _write(
    asked: Query, answer: Answer, explain: bool, format_: Format, output: Path | None, settings: Config
) -> None:
    from worker.query.listing import print_answer

    if format_ is not Format.TABLE:
        _deliver(_document(asked, answer, explain, format_, settings), output)
    elif output is None:
        if answer.found:
            print_answer(asked, answer, explain=explain)
    else:
        table = io.StringIO()
        print_answer(asked, answer, explain=explain, file=table)
        _deliver(table.getvalue().rstrip("\n"), output)


def _document(asked: Query, answer: Answer, explain: bool, format_: Format, settings: Config) -> str:
    from worker.query.listing import answer_json
    from worker.query.output import answer_html

    if format_ is Format.JSON:
        return answer_json(asked, answer, explain=explain)
    return answer_html(asked, answer, _media(settings), explain=explain)


def _deliver(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror or error}") from error
    typer.echo(f"written to {output}")


def _media(settings: Config) -> MediaStore | None:
    """The media store, if there is one already: a query makes none."""
    from worker.media import existing_media
    from worker.query.output import default_media_store

    return existing_media(settings.media_store or default_media_store(settings.store))
