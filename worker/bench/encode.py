"""`entityclip bench encode`: posts to vectors, our stream beside the plain reference loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.bench.command_line import command_line
from worker.bench.report import Report, print_report, write_json
from worker.cli.model_options import CacheOption, check_outputs, model_errors

if TYPE_CHECKING:
    from model.serving.stream import RawPost
    from worker.bench.encode_ways import EncodeWays, Threads

EXAMPLE = "Example: entityclip bench encode --model tiny --data posts.jsonl --rounds 5 --json encode.json"

_PART_POSTS = 32  # whose parts are timed one by one


class Precision(StrEnum):
    """Of the matrix products of our side; the reference computes in fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What is measured; see the options of `encode`. 0 threads and no device: chosen by the machine."""

    model: str = "tiny"
    data: Path | None = None
    posts: int = 128
    rounds: int = 3
    caption_tokens: int = 24
    explanation_tokens: int = 40
    threads: int = 0
    encode_threads: int = 0
    rows: int = 32
    precision: Precision = Precision.AUTO
    device: str | None = None
    recall_pools: int = 0
    cache: Path | None = None


def encode(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="tiny|DIR|SOURCE|NAME",
            help="A checkpoint, or open_clip's name of an architecture for random weights, as in ViT-B-32.",
        ),
    ] = "tiny",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FILE", help="JSON lines with text and image (a JPEG).  [drawn pictures]"
        ),
    ] = None,
    posts: Annotated[int, typer.Option("--posts", min=1, help="Posts a round.")] = 128,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of both ways, in turns.")] = 3,
    caption_tokens: Annotated[
        int, typer.Option("--caption-tokens", min=0, max=77, help="About; 0 for captions as they are.")
    ] = 24,
    explanation_tokens: Annotated[
        int, typer.Option("--explanation-tokens", min=0, max=77, help="About; 0 for them as they are.")
    ] = 40,
    threads: Annotated[int, typer.Option("--threads", min=0, help="That decode pictures.  [one a core]")] = 0,
    encode_threads: Annotated[
        int,
        typer.Option(
            "--encode-threads", min=0, help="That compute and share the cores.  [one a core; on a GPU 2]"
        ),
    ] = 0,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Posts a batch of ours; the reference takes 64.")
    ] = 32,
    precision: Annotated[
        Precision, typer.Option("--precision", help="Of ours; auto measures which is fastest.")
    ] = Precision.AUTO,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="torch device.  [the GPU where there is one]"),
    ] = None,
    recall: Annotated[
        int,
        typer.Option(
            "--recall",
            metavar="POOLS",
            min=0,
            help="Retrieval on so many FlagNews pools by both ways' vectors.",
        ),
    ] = 0,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the numbers go too.  [nowhere]")
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Posts a second from JPEG files and two texts to vectors, beside a plain open_clip loop."""
    check_outputs(json, None)
    options = EncodeOptions(
        model=model,
        data=data,
        posts=posts,
        rounds=rounds,
        caption_tokens=caption_tokens,
        explanation_tokens=explanation_tokens,
        threads=threads,
        encode_threads=encode_threads,
        rows=rows,
        precision=precision,
        device=device,
        recall_pools=recall,
        cache=cache,
    )
    with model_errors():
        report = bench_encode(options, command_line())
        print_report(report)
        if json is not None:
            write_json(report, json)


def bench_encode(options: EncodeOptions, command: str) -> Report:
    """Measure both ways in turns; blocks for as long as both take.

    Raises:
        ConfigError: the posts cannot be used.
        ValueError, OSError: the model or the device cannot be used.
    """
    from model.device import choose_device
    from model.serving.allocator import keep_freed_memory
    from worker.bench.encode_recall import compare_recall
    from worker.bench.encode_report import Findings, encode_report
    from worker.bench.encode_ways import OURS, REFERENCE, EncodeWays
    from worker.bench.machine import this_machine
    from worker.bench.models import open_model
    from worker.bench.rounds import run_in_turns

    keep_freed_memory()  # as the worker does; the reference, in the same process, gains by it too
    device = choose_device(options.device)
    machine, checkpoint = this_machine(device), open_model(options.model)
    threads = _threads(options, device, machine.cores)
    ways = EncodeWays(checkpoint, device, options.precision.value, threads, options.rows)
    posts = _posts(options, ways)
    for way in (ways.reference, ways.ours):  # not counted
        way(posts[: options.rows])
    turns = run_in_turns(
        {REFERENCE: lambda: ways.reference(posts), OURS: lambda: ways.ours(posts)}, options.rounds
    )
    sample = posts[: max(_PART_POSTS, options.rows)]
    parts = run_in_turns(
        {REFERENCE: lambda: ways.reference_parts(sample), OURS: lambda: ways.our_parts(sample)},
        options.rounds,
    )
    size = checkpoint.config.architecture.vision.image_size
    pools = options.recall_pools
    recall = compare_recall(size, pools, ways.reference, ways.ours, options.cache) if pools else []
    found = Findings(len(posts), turns, len(sample), parts, ways.whole_texts(posts), recall)
    settings = {
        **_settings(options, ways),
        "weights": "random" if checkpoint.fresh_heads else checkpoint.model_id,
    }
    return encode_report(found, command, machine, settings, ways.precision_line)


def _threads(options: EncodeOptions, device: str, cores: int) -> Threads:
    from worker.bench.encode_ways import Threads

    encode = options.encode_threads or (cores if device == "cpu" else 2)
    return Threads(options.threads or cores, encode, max(1, cores // encode))


def _posts(options: EncodeOptions, ways: EncodeWays) -> list[RawPost]:
    from worker.bench.posts import drawn_posts, read_posts, sized_posts

    found = drawn_posts() if options.data is None else read_posts(options.data)
    return sized_posts(
        found, options.posts, ways.tokenizer, options.caption_tokens, options.explanation_tokens
    )


def _settings(options: EncodeOptions, ways: EncodeWays) -> dict[str, str | int | float | bool]:
    return {
        "model": options.model,
        "pictures": "drawn, 1280x853" if options.data is None else str(options.data),
        "posts": options.posts,
        "rounds": options.rounds,
        "caption_tokens": options.caption_tokens,
        "explanation_tokens": options.explanation_tokens,
        "rows": options.rows,
        "decode_threads": ways.threads.decode,
        "encode_threads": ways.threads.encode,
        "torch_threads": ways.threads.torch,
        "precision": ways.precision,
    }
