"""`entityclip why`: what became of a post, and why two posts match or do not."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, ModelOption, StoreOption, read_config

EXAMPLE = "Example: entityclip why post-17 post-23 --store entityclip-store --outcomes kafka:news.outcomes"


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"


def why(
    post: Annotated[str, typer.Argument(metavar="POST", help="A post's id.")],
    other: Annotated[str | None, typer.Argument(metavar="[POST]", help="Another one's.")] = None,
    store: StoreOption = None,
    outcomes: Annotated[
        str | None,
        typer.Option("--outcomes", metavar="file:PATH|kafka:TOPIC", help="Look for its outcome there."),
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option("--dead-letters", metavar="file:PATH|kafka:TOPIC", help="Look for its dead letter."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="Partners shown for each point.")] = 5,
    format_: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.TABLE,
    model: ModelOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what the store, the outcomes and the dead letters hold of a post.

    Of one post also its nearest partners; of two posts every pair of a text and a picture: its score against
    the threshold, and each rule that stands between them. Reads only; a post that is nowhere is no error.
    """
    settings = read_config(
        config, {"store": store, "model": model, "outcomes": outcomes, "dead_letters": dead_letters}
    )
    from worker.transport.spec import parse_spec
    from worker.why.output import print_why, why_json
    from worker.why.report import Asked, explain_why

    asked = Asked(
        posts=(post,) if other in (None, post) else (post, str(other)),
        outcomes=parse_spec(settings.outcomes, "outcome sink") if settings.outcomes else None,
        dead_letters=parse_spec(settings.dead_letters, "dead-letter sink") if settings.dead_letters else None,
        top=top,
    )
    answer = explain_why(asked, settings)
    if format_ is Format.JSON:
        typer.echo(why_json(answer))
    else:
        print_why(answer)
