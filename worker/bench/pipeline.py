"""The whole worker over a file of posts: how well its stages overlap, and which one holds it up.

    report = bench_pipeline(PipelineOptions(posts=400), command="entityclip bench pipeline --posts 400")

The worker is the real one (`worker.build`), in this process, with the embedded store and an endpoint in the
LLM's place that answers after a set time. In one run: each stage alone over the posts, the whole worker over
the same posts, one post after the other without overlap, and the whole worker again at half of its rate,
where the time from a post's delivery to its acknowledged outcome is taken.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.bench.llm_server import answering_after
from worker.bench.machine import this_machine
from worker.bench.pipeline_posts import PacedSource, drawn_posts, own_posts, records_of
from worker.bench.pipeline_report import Findings, Whole, pipeline_report
from worker.bench.pipeline_stages import Alone, decoded, each_alone, one_by_one
from worker.bench.report import Report
from worker.bench.rounds import timed
from worker.build import build_pipeline
from worker.config import Config, load_config
from worker.flow.pipeline import Pipeline
from worker.transport.base import Record, Source
from worker.types import Outcome

_PAUSE_BETWEEN_RUNS_S = 1.0  # what the store puts off until nobody asks is not the next run's work


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What is measured.

    Args:
        model: a checkpoint, or the name of an open_clip architecture, which then has random weights.
        data: posts as JSONL instead of drawn ones.
        picture_size: width and height of a drawn picture, pixels.
        llm_latency_ms, llm_in_flight: of the endpoint in the LLM's place; 0 in flight for no LLM.
        naive_posts: for the loop without overlap, each of which waits for the LLM alone; 0 leaves it out.
        rounds: in each, every stage alone and then the whole worker.
        overrides: more of the configuration, by dotted name.
    """

    model: str = "tiny"
    device: str = "cpu"
    data: Path | None = None
    posts: int = 400
    picture_size: tuple[int, int] = (1280, 853)
    llm_latency_ms: float = 400.0
    llm_in_flight: int = 64
    media: bool = True
    naive_posts: int = 16
    rounds: int = 3
    overrides: Mapping[str, object] | None = None


def bench_pipeline(options: PipelineOptions, command: str) -> Report:
    """Run everything; blocks for minutes.

    Raises:
        ConfigError: the data, the model or an override cannot be used.
        WorkerError: the worker failed.
    """
    with (
        TemporaryDirectory(prefix="entityclip-bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        work = Path(folder)
        posts = _posts(options, work)
        url = stack.enter_context(answering_after(options.llm_latency_ms / 1000))
        bench = _Bench(_overrides(options, posts, url, work), work)
        records = records_of(posts)
        bench.whole(records[: len(records) // 4])  # so that what happens once in a process is not measured
        alone, whole = [], []
        for _ in range(options.rounds):
            alone.append(bench.alone(records))
            whole.append(bench.whole(records))
        lone = bench.one_by_one(records[: options.naive_posts + 1])
        rate = statistics.median(run.rate for run in whole)
        latencies = bench.latencies(records[: len(records) // 2], rate / 2)
        found = Findings(alone, whole, lone, latencies, rate / 2)
        return pipeline_report(found, command, this_machine(options.device), _settings(options, bench.config))


class _Bench:
    """Runs of one configuration, each with an empty store, sink and media store of its own."""

    def __init__(self, overrides: Mapping[str, object], work: Path) -> None:
        self._overrides, self._work = overrides, work
        self._runs = 0
        self.config = self._fresh()

    def whole(self, records: Sequence[Record]) -> Whole:
        """The worker as `entityclip run` has it, over a file."""
        config = self._fresh(records)
        with build_pipeline(config) as pipeline:
            run = timed(pipeline.run)
            return Whole(run.result, run.cpu_s)

    def alone(self, records: Sequence[Record]) -> list[Alone]:
        """Each stage by itself, one after the other."""
        with self._built(PacedSource(records, 1.0)) as pipeline:
            return each_alone(pipeline.steps, decoded(records, pipeline.settings), pipeline.settings)

    def one_by_one(self, records: Sequence[Record]) -> list[float]:
        """Seconds of each post but the first in a loop without overlap."""
        with self._built(PacedSource(records, 1.0)) as pipeline:
            return one_by_one(pipeline.steps, decoded(records, pipeline.settings))[1:]

    def latencies(self, records: Sequence[Record], per_s: float) -> list[float]:
        """Seconds from when each post was due to its acknowledgement, sorted; posts come at a steady rate."""
        source = PacedSource(records, per_s)
        seconds: list[float] = []
        with self._built(source) as built:

            def emit(batch: Sequence[Outcome]) -> Sequence[Outcome]:
                acknowledged = built.steps.emit(batch)
                now_s = time.perf_counter()
                seconds.extend(now_s - source.due_s[outcome.record.offset] for outcome in acknowledged)
                return acknowledged

            Pipeline(source, replace(built.steps, emit=emit), settings=built.settings).run()
        return sorted(seconds)

    @contextmanager
    def _built(self, source: Source) -> Iterator[Pipeline]:
        with build_pipeline(self._fresh(), source=source) as pipeline:
            yield pipeline

    def _fresh(self, records: Sequence[Record] | None = None) -> Config:
        self._runs += 1
        place = self._work / f"run-{self._runs}"
        places: dict[str, object] = {"sink": f"file:{place / 'matches.jsonl'}", "store": str(place / "store")}
        if self._overrides.get("media_store"):
            places["media_store"] = str(place / "media")
        if records is not None:
            time.sleep(_PAUSE_BETWEEN_RUNS_S)
            place.mkdir()
            (place / "posts.jsonl").write_bytes(b"".join((one.value or b"") + b"\n" for one in records))
            places["source"] = f"file:{place / 'posts.jsonl'}"
        return load_config(None, {**self._overrides, **places}, environ={})


def _posts(options: PipelineOptions, work: Path) -> Path:
    folder = work / "posts"
    folder.mkdir()
    if options.data is None:
        return drawn_posts(folder, options.posts, options.picture_size)
    return own_posts(options.data, folder, options.posts)


def _overrides(options: PipelineOptions, posts: Path, llm: str, work: Path) -> dict[str, object]:
    overrides: dict[str, object] = {
        "source": f"file:{posts}",
        "media_root": str(posts.parent if options.data is None else options.data.parent),
        "media_store": "media" if options.media else None,
        "model": _model(options.model, work),
        "device": options.device,
        "log_level": "warning",
    }
    if options.llm_in_flight:
        overrides |= {"llm.base_url": llm, "llm.api_key": "none", "llm.concurrency": options.llm_in_flight}
    return overrides | dict(options.overrides or {})


def _model(name: str, work: Path) -> str:
    """The name, or a checkpoint of random weights where it is an architecture of open_clip."""
    import open_clip

    if name not in open_clip.list_models():
        return name
    from model.checkpoint import save
    from model.config import CheckpointConfig, ExpertConfig, MatchingConfig
    from model.entityclip import EntityClip
    from model.sources.openclip_config import read_architecture

    architecture = read_architecture(open_clip.get_model_config(name) or {}, name, ExpertConfig())
    # Random vectors are all alike: with this threshold a post has about as many matches as none.
    matching = MatchingConfig(threshold=1.0)
    config = CheckpointConfig(architecture=architecture, matching=matching, text="concat")
    save(work / name, EntityClip(architecture), config)
    return str(work / name)


def _settings(options: PipelineOptions, config: Config) -> dict[str, str | int | float | bool]:
    llm: dict[str, str | int | float | bool] = {
        "llm_latency_ms": options.llm_latency_ms,
        "llm_in_flight": options.llm_in_flight,
    }
    pictures = "x".join(map(str, options.picture_size)) if options.data is None else str(options.data)
    return {
        "model": options.model,
        "posts": options.posts,
        "pictures": pictures,
        **(llm if options.llm_in_flight else {"llm": "none"}),
        "media_store": options.media,
        "prepare_threads": config.prepare.threads,
        "encode_batch": config.encode.batch_size,
        "rounds": options.rounds,
    }
