"""`entityclip run`: the pipeline over a stream, from the first record to the last or to a signal."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.options import ConfigOption, DeviceOption, ModelOption, StoreOption, read_config
from worker.errors import ConfigError, ExitCode

EXAMPLE = (
    "Example: entityclip run --source file:posts.jsonl --sink file:matches.jsonl --store entityclip-store"
)


def run(
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="file:PATH", help="JSONL file, folder of images with captions, or file:-"
        ),
    ] = None,
    sink: Annotated[
        str | None, typer.Option("--sink", metavar="file:PATH", help="Where matches go: a JSONL file.")
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option(
            "--dead-letters", metavar="file:PATH", help="Where refused posts go.  [beside the sink]"
        ),
    ] = None,
    outcomes: Annotated[
        str | None,
        typer.Option("--outcomes", metavar="file:PATH", help="One small record a post.  [nowhere]"),
    ] = None,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    media_store: Annotated[
        str | None, typer.Option("--media-store", metavar="DIR", help="Folder for thumbnails.  [none]")
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
        int | None, typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics.  [off]")
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Match a stream of posts; a bad post becomes a dead letter and nothing else stops.

    Ctrl-C finishes what is in flight and stops; the next run goes on from there.
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
        },
    )
    for name in ("source", "sink"):
        if not getattr(settings, name):
            raise ConfigError(f"no {name} named: give --{name} file:PATH or set it in the configuration")
    from worker.build import build_pipeline
    from worker.cli.progress import outcome_progress, summary_lines
    from worker.signals import stop_on_signal

    with (
        outcome_progress("matching") as show,
        build_pipeline(settings, on_outcome=show) as pipeline,
        stop_on_signal(pipeline),
    ):
        summary = pipeline.run()
    for line in summary_lines(summary):
        typer.echo(line)
    return ExitCode.INTERRUPTED if summary.stopped else ExitCode.DONE
