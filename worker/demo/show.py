"""The demo from the first post to the page."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from worker.build import build_pipeline
from worker.cli.progress import outcome_progress
from worker.config import Config, load_config
from worker.demo.collect import Collector, load_thumbnail
from worker.demo.facts import DemoFacts
from worker.demo.judge import judge, judge_context, judge_groups
from worker.demo.report import demo_page
from worker.demo.stream import STREAM_NAME, Stream, StreamConfig, held_out_fold, write_stream
from worker.demo.terminal import print_next, print_report
from worker.errors import ConfigError
from worker.flow.pipeline import Summary
from worker.media import MediaStore
from worker.page import DemoPage, render_demo, write_page
from worker.query.output import default_media_store, thumbnail_of
from worker.signals import stop_on_signal

if TYPE_CHECKING:
    from model.config import CheckpointConfig


_UNSEEN_PAIRS = 6


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo was asked for.

    Args:
        posts: a JSONL file or a folder instead of the drawn stream.
        output: where the page goes.
        store: folder or URL of a store that is kept; None for one that goes with the demo.
        model: a checkpoint's folder, or `tiny`.
        config: a TOML file for everything else.
    """

    posts: Path | None = None
    output: Path = Path("entityclip-demo.html")
    store: str | None = None
    model: str | None = None
    seed: int = 0
    config: Path | None = None


def show(options: DemoOptions) -> bool:
    """Run the demo and print it.

    Returns:
        Whether it was stopped before its end.

    Raises:
        ConfigError, FatalError, TransientError: as `build_pipeline`; or the page cannot be written.
    """
    started_s = time.monotonic()
    _check_output(options.output)
    with TemporaryDirectory(prefix="entityclip-demo-") as folder:
        work = Path(folder)
        config = load_config(options.config, _overrides(options, work))
        checkpoint = _read_checkpoint(config.model)
        stream = None if options.posts is not None else _draw(work, options.seed, checkpoint)
        collector, summary = _run(config, None if stream is None else stream.posts)
        facts = _facts(options, config, checkpoint, stream, collector, summary, time.monotonic() - started_s)
        write_page(options.output, render_demo(_page(facts, config)))
    print_report(facts)
    print(f"page: {options.output}")
    print_next(facts)
    return summary.stopped


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What the demo says of the model; the weights are the pipeline's business."""

    config: CheckpointConfig
    model_id: str


def _check_output(output: Path) -> None:
    """Refuse now rather than after the run."""
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigError(f"the page cannot be written to {output}")


def _overrides(options: DemoOptions, work: Path) -> dict[str, object]:
    store = options.store or str(work / "store")
    return {
        "source": f"file:{options.posts or work / STREAM_NAME}",
        "sink": f"file:{work / 'matches.jsonl'}",
        "dead_letters": f"file:{work / 'dead-letters.jsonl'}",
        "offsets": work / "offsets.json",
        "store": store,
        "media_store": work / "media" if "://" in store else default_media_store(store),
        "model": options.model,
        # a folder of pictures with captions asks first of all whether each finds its own
        "match.same_post": True if options.posts is not None and options.posts.is_dir() else None,
    }


def _read_checkpoint(model: str) -> _Checkpoint:
    from model.checkpoint import (
        CheckpointError,
        model_id,
        read_config,
        resolve,
    )  # torch takes seconds to import

    try:
        folder = resolve(model)
        return _Checkpoint(read_config(folder), model_id(folder))
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def _draw(work: Path, seed: int, checkpoint: _Checkpoint) -> Stream:
    """Draw the stream.

    Looks that the model never saw, where it says which these are, come in only if it reads explanations:
    nothing else could tell it what they look like.
    """
    fold = held_out_fold(checkpoint.config.training)
    plan = StreamConfig(seed=seed, unseen_fold=fold)
    if checkpoint.config.text == "concat" and fold is not None:
        plan = replace(plan, pairs=plan.pairs - _UNSEEN_PAIRS, unseen_pairs=_UNSEEN_PAIRS)
    with tqdm(total=plan.good_posts, desc="drawing", unit="post", disable=None, leave=False) as bar:
        return write_stream(work, plan, on_post=bar.update)


def _run(config: Config, total: int | None) -> tuple[Collector, Summary]:
    with outcome_progress("matching", total) as progress:
        collector = Collector(progress)
        with build_pipeline(config, on_outcome=collector) as pipeline, stop_on_signal(pipeline):
            return collector, pipeline.run()


def _facts(
    options: DemoOptions,
    config: Config,
    checkpoint: _Checkpoint,
    stream: Stream | None,
    collector: Collector,
    summary: Summary,
    seconds: float,
) -> DemoFacts:
    threshold = config.match.threshold
    answer, matches = None if stream is None else stream.answer, collector.matches
    return DemoFacts(
        summary=summary,
        matches=matches,
        matches_seen=collector.matches_seen,
        lone=collector.lone,
        lone_dropped=collector.lone_dropped,
        dead_letters=tuple(collector.dead_letters),
        answer=answer,
        judgement=None if answer is None else judge(matches, answer),
        groups={} if answer is None else judge_groups(matches, answer),
        context=None if answer is None else judge_context(matches, answer),
        model=config.model,
        model_id=checkpoint.model_id,
        threshold=checkpoint.config.matching.threshold if threshold is None else threshold,
        seconds=seconds,
        store=options.store,
        held_out=answer is not None
        and not answer.unseen
        and held_out_fold(checkpoint.config.training) is not None,
    )


def _page(facts: DemoFacts, config: Config) -> DemoPage:
    media = MediaStore(Path(str(config.media_store)))
    source = Path(config.source.removeprefix("file:"))
    root = source if source.is_dir() else source.parent
    return demo_page(
        facts,
        lambda content_hash: thumbnail_of(content_hash, media),
        lambda post: load_thumbnail(post, root, media),
    )
