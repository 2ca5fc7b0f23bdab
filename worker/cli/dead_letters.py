"""`entityclip dead-letters`: what was refused and why, and once more from the beginning."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import INCOMPLETE, ConfigOption, parse_since, read_config
from worker.errors import ConfigError, ExitCode, Reason, TransientError

if TYPE_CHECKING:
    from worker.dead_letters.letter import DeadLetterLine
    from worker.dead_letters.reads import Selection
    from worker.dead_letters.replay import Report, Target
    from worker.sections import KafkaConfig
    from worker.transport.base import Partition, Record
    from worker.transport.spec import Spec

LIST_EXAMPLE = "Example: entityclip dead-letters list matches.dead.jsonl --reason image_too_large"
REPLAY_EXAMPLE = (
    "Example: entityclip dead-letters replay kafka:news.posts.dead --reason image_unavailable --since 2d"
)

WhereArgument = Annotated[
    str, typer.Argument(metavar="WHERE", help="A file that `run` wrote dead letters to, or kafka:TOPIC.")
]
ReasonOption = Annotated[
    list[Reason] | None,
    typer.Option("--reason", metavar="REASON", help="Only those refused for this; may be repeated."),
]
StageOption = Annotated[str | None, typer.Option("--stage", help="Only those refused by this stage.")]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only letters written since (in a file: whose record was produced since): 90m, 7d, a date.",
    ),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="The same, and before this time.")
]
TopicOption = Annotated[
    str | None, typer.Option("--source-topic", metavar="TOPIC", help="Only records of this topic or file.")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="Only records with this key.")]
OffsetsOption = Annotated[
    str | None,
    typer.Option("--offsets", metavar="A-B", help="Only records at these offsets (lines, from 0)."),
]

app = typer.Typer(
    help="Look at posts that were refused, or try them again.", rich_markup_mode=None, no_args_is_help=False
)


@app.callback()
def _group() -> None:
    """The group has no options of its own."""


@app.command("list", epilog=LIST_EXAMPLE)
def list_letters(
    where: WhereArgument,
    reason: ReasonOption = None,
    stage: StageOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    source_topic: TopicOption = None,
    key: KeyOption = None,
    offsets: OffsetsOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Letters shown, at most.")] = 50,
    config: ConfigOption = None,
) -> None:
    """Count the dead letters of a file or topic by reason and show them."""
    from worker.dead_letters.reads import read_letters

    place = _place(where)
    selection = _selection(reason, stage, since, until, source_topic, key, offsets)
    counts: Counter[str] = Counter()
    shown: list[DeadLetterLine] = []
    for letter in filter(selection.takes, read_letters(place, read_config(config, {}).kafka)):
        counts[letter.reason] += 1
        if len(shown) < limit:
            shown.append(letter)
    if counts:
        _print_letters(counts, shown)
    else:
        typer.echo("no dead letters")


@app.command("replay", epilog=REPLAY_EXAMPLE)
def replay_letters(
    where: WhereArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="file:PATH|kafka:TOPIC",
            help="Where the records go.  [the topic that each came from, if WHERE is a topic]",
        ),
    ] = None,
    reason: ReasonOption = None,
    stage: StageOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    source_topic: TopicOption = None,
    key: KeyOption = None,
    offsets: OffsetsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Letters taken, at most.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be replayed; write nothing.")
    ] = False,
    config: ConfigOption = None,
) -> int:
    """Write refused records again, as they were: to a topic with key and headers, to a file as lines.

    The letters stay where they are. Exit code 1: some records could not be replayed; the output says why.
    """
    from worker.dead_letters.reads import read_letters
    from worker.dead_letters.replay import Replay

    place = _place(where)
    destination = _destination(place, to)
    selection = _selection(reason, stage, since, until, source_topic, key, offsets)
    kafka = read_config(config, {}).kafka
    letters = islice(filter(selection.takes, read_letters(place, kafka)), limit)
    with _target(destination, kafka, dry_run) as target:
        replay = Replay(target, destination, lambda partition, offset: _read_at(kafka, partition, offset))
        try:
            report = replay.run(letters)
        except TransientError as error:
            count = replay.report.replayed.total()
            raise TransientError(f"{error}; {count} records were replayed before") from error
    _print_report(report, dry_run)
    return INCOMPLETE if report.failed else ExitCode.DONE


def _place(where: str) -> Spec:
    """`kafka:TOPIC`, `file:PATH`, or a path alone."""
    from worker.transport.spec import Spec, parse_spec

    spec = parse_spec(where, "place") if where.startswith(("file:", "kafka:")) else Spec("file", where)
    if spec.kind == "file" and not Path(spec.name).is_file():
        raise ConfigError(f"{spec.name}: no such file")
    return spec


def _destination(place: Spec, to: str | None) -> Spec | None:
    from worker.transport.spec import parse_spec

    if to is None:
        if place.kind == "file":
            raise typer.BadParameter("a file needs --to file:PATH or --to kafka:TOPIC")
        return None
    destination = parse_spec(to, "destination")
    if destination == place:
        raise typer.BadParameter("--to must not be the place of the letters themselves")
    return destination


def _selection(
    reason: list[Reason] | None,
    stage: str | None,
    since: str | None,
    until: str | None,
    source_topic: str | None,
    key: str | None,
    offsets: str | None,
) -> Selection:
    from worker.dead_letters.reads import Selection

    return Selection(
        frozenset(item.value for item in reason or ()),
        stage,
        parse_since(since),
        parse_since(until),
        source_topic,
        key,
        _offsets(offsets),
    )


def _offsets(value: str | None) -> tuple[int, int] | None:
    """`7` or `7-12`, both included."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", value)
    if match is None:
        raise typer.BadParameter(f"{value!r} is no range of offsets: write 7 or 7-12")
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise typer.BadParameter(f"{value!r} ends before it begins")
    return first, last


def _target(destination: Spec | None, kafka: KafkaConfig, dry_run: bool) -> AbstractContextManager[Target]:
    from worker.dead_letters.targets import DryTarget, LineTarget, TopicTarget

    to_file = destination is not None and destination.kind == "file"
    if dry_run:
        return nullcontext(DryTarget(to_file=to_file))
    if destination is not None and to_file:
        return LineTarget(Path(destination.name))
    return TopicTarget(kafka)


def _read_at(kafka: KafkaConfig, partition: Partition, offset: int) -> Record | None:
    from worker.transport.kafka.clients import read_at

    return read_at(kafka, partition, offset)


def _print_letters(counts: Counter[str], shown: list[DeadLetterLine]) -> None:
    from worker.tables import Column, print_heading, print_table

    print_heading("By reason")
    print_table(
        (Column("reason"), Column("posts", "right")),
        [(name, str(count)) for name, count in counts.most_common()],
    )
    print_heading(f"{len(shown)} of {counts.total()}")
    several = len({(letter.topic, letter.partition) for letter in shown}) > 1
    print_table(
        (
            Column("place" if several else "offset", "right"),
            Column("reason"),
            Column("detail", wide=True),
            Column("post", wide=True),
        ),
        [
            (letter.key if several else str(letter.offset), letter.reason, letter.detail, _content(letter))
            for letter in shown
        ],
    )


def _content(letter: DeadLetterLine) -> str:
    from worker.printable import excerpt

    if letter.is_pointer:
        return f"({letter.value_bytes} bytes, in the topic itself)"
    return "(a take-down)" if letter.tombstone else excerpt(letter.raw())


def _print_report(report: Report, dry_run: bool) -> None:
    done = "would be replayed" if dry_run else "replayed"
    for destination, count in report.replayed.items():
        typer.echo(f"{count} {done} to {destination.kind}:{destination.name}")
    for obstacle, count in report.failed.items():
        typer.echo(f"{count} not replayed: {obstacle.value}")
    if not report.replayed and not report.failed:
        typer.echo("no dead letters to replay")
