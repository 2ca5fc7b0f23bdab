"""`entityclip run`: the pipeline over a stream, from the first record to the last or to a signal."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from worker.cli.options import ConfigOption, DeviceOption, ModelOption, StoreOption, parse_since, read_config
from worker.errors import ConfigError, ExitCode
from worker.signals import handling_signals

EXAMPLE = (
    "Example: entityclip run --source file:posts.jsonl --sink file:matches.jsonl --store entityclip-store; "
    "entityclip run --source kafka:news.posts --sink kafka:news.matches --outcomes kafka:news.outcomes"
)


def run(
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SPEC",
            help="kafka:TOPIC, or file:PATH of a JSONL file or a folder of images with captions, or file:-",
        ),
    ] = None,
    sink: Annotated[
        str | None, typer.Option("--sink", metavar="SPEC", help="Where matches go: kafka:TOPIC or file:PATH.")
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option(
            "--dead-letters",
            metavar="SPEC",
            help="Where refused posts go.  [SOURCE-TOPIC.dead, or beside the sink]",
        ),
    ] = None,
    outcomes: Annotated[
        str | None,
        typer.Option("--outcomes", metavar="SPEC", help="One small record a post.  [nowhere]"),
    ] = None,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    media_store: Annotated[
        str | None,
        typer.Option("--media-store", metavar="PLACE", help="Thumbnails: a folder or fsspec URL.  [none]"),
    ] = None,
    media_root: Annotated[
        str | None,
        typer.Option("--media-root", metavar="DIR", help="Image paths lie below it.  [the source's folder]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Least score of a match.  [the checkpoint's]"),
    ] = None,
    window_days: Annotated[
        float | None, typer.Option("--window-days", help="Largest distance of two posts' dates.  [any]")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=0, max=65535, help="Serve /metrics, /livez and /readyz.  [off]"),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Of Kafka consumers that share a topic.  [entityclip]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Where a new group begins in a topic: 7d, 2026-01-31."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Read a topic up to this time, then end.")
    ] = None,
    no_emit: Annotated[
        bool, typer.Option("--no-emit", help="Fill the store and write no matches (a backfill).")
    ] = False,
    ignore_limits: Annotated[
        bool, typer.Option("--ignore-limits", help="Go on however many posts are refused.")
    ] = False,
    config: ConfigOption = None,
) -> int:
    """Match a stream of posts; a bad post becomes a dead letter and nothing else stops.

    Ctrl-C or SIGTERM finishes what is in flight and stops; the next run goes on from there.
    """
    settings = read_config(
        config,
        {
            "source": source,
            "sink": sink,
            "dead_letters": dead_letters,
            "outcomes": outcomes,
            "store": store,
            "model": model,
            "device": device,
            "media_store": media_store,
            "media_root": media_root,
            "match.threshold": threshold,
            "match.window_days": window_days,
            "metrics.port": metrics_port,
            "kafka.group": group,
            "start_at": parse_since(start),
            "until": parse_since(until),
            "emit": False if no_emit else None,
            "dead_letter_limits.ignore": True if ignore_limits else None,
        },
    )
    for name in ("source", "sink"):
        if not getattr(settings, name):
            raise ConfigError(
                f"no {name} named: give --{name} kafka:TOPIC or file:PATH, or set it in the configuration"
            )
    with handling_signals() as signals:
        from worker.build import build_pipeline
        from worker.cli.progress import outcome_progress, summary_lines

        with (
            outcome_progress("matching") as show,
            build_pipeline(settings, on_outcome=show) as pipeline,
        ):
            signals.stop(pipeline)
            summary = pipeline.run()
    for line in summary_lines(summary, written=settings.emit):
        typer.echo(line)
    # SIGTERM is how a worker's life ends; Ctrl-C says that somebody did not wait for the end
    return ExitCode.INTERRUPTED if signal.SIGINT in signals.received else ExitCode.DONE
