"""`entityclip bench`: speed on this machine, beside a plain way of doing the same in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.bench import encode, search, tokenise, train
from worker.bench.command_line import command_line
from worker.bench.report import print_report, write_json
from worker.cli.model_options import check_outputs, model_errors

PIPELINE_EXAMPLE = "Example: entityclip bench pipeline --posts 400 --llm-latency-ms 400 --json pipeline.json"

app = typer.Typer(
    help="Measure speed on this machine, each beside a plain reference in the same run.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.command("pipeline", epilog=PIPELINE_EXAMPLE)
def pipeline(
    model: Annotated[
        str,
        typer.Option("--model", metavar="tiny|DIR|NAME", help="A checkpoint, or an open_clip architecture."),
    ] = "tiny",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Posts as JSON lines.  [drawn ones]")
    ] = None,
    posts: Annotated[int, typer.Option("--posts", min=2, help="Posts a run.")] = 400,
    picture: Annotated[
        str, typer.Option("--picture", metavar="WxH", help="Size of a drawn picture, pixels.")
    ] = "1280x853",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Runs of the whole worker.")] = 3,
    llm_latency_ms: Annotated[
        float, typer.Option("--llm-latency-ms", min=0, help="Until the endpoint in the LLM's place answers.")
    ] = 400.0,
    llm_in_flight: Annotated[
        int, typer.Option("--llm-in-flight", min=0, help="Requests at once; 0 for no LLM.")
    ] = 64,
    media: Annotated[
        bool, typer.Option("--media/--no-media", help="Whether thumbnails are kept in a media store.")
    ] = True,
    naive_posts: Annotated[
        int, typer.Option("--naive-posts", min=0, help="Of the loop without overlap; 0 leaves it out.")
    ] = 16,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="torch device.")] = "cpu",
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the numbers go too.  [nowhere]")
    ] = None,
) -> None:
    """The whole worker on a stream of posts: how well its stages overlap, and which one holds it up."""
    check_outputs(json, None)
    from worker.bench.pipeline import PipelineOptions, bench_pipeline  # imports the worker, and torch

    options = PipelineOptions(
        model=model,
        device=device,
        data=data,
        posts=posts,
        picture_size=_size(picture),
        llm_latency_ms=llm_latency_ms,
        llm_in_flight=llm_in_flight,
        media=media,
        naive_posts=naive_posts,
        rounds=rounds,
    )
    with model_errors():
        report = bench_pipeline(options, command_line())
        print_report(report)
        if json is not None:
            write_json(report, json)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 32 <= int(width) * int(height) <= 50_000_000):
        raise typer.BadParameter(f"{text!r} is no size such as 640x427", param_hint="'--picture'")
    return int(width), int(height)


app.command("tokenise", epilog=tokenise.EXAMPLE)(tokenise.tokenise)
app.command("encode", epilog=encode.EXAMPLE)(encode.encode)
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("search", epilog=search.EXAMPLE)(search.search)
