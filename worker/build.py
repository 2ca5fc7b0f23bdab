"""From a configuration to a running pipeline, and everything closed again in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from model.pictures.decode import ImageLimits
from model.pictures.pixel_budget import PixelBudget
from worker.config import Config
from worker.coordination.attempts import NoAttempts, RedisAttempts
from worker.coordination.breaker import Breaker
from worker.coordination.emitted import EmittedPairs
from worker.coordination.redis import open_redis
from worker.endpoints import media_root, open_sinks, open_source
from worker.errors import Crash, WorkerError
from worker.flow.limits import DeadLetterGuard
from worker.flow.memory import HeapTrimmer, settled_heap
from worker.flow.pipeline import Pipeline, Settings
from worker.flow.trial import try_records
from worker.gathering import open_gather
from worker.media import MediaStore
from worker.observe.health import Health
from worker.observe.http import serving
from worker.observe.logs import configure_logging
from worker.observe.metrics import Metrics
from worker.posts import PostLimits
from worker.serving import Serving, load_checkpoint, open_serving
from worker.stages.chain import STAGES, Steps
from worker.stages.emit import Emit
from worker.stages.prepare import LocalLoader, Preparer
from worker.stages.stage import Batching
from worker.stages.times import StageTimes
from worker.transport.base import Source, still_ours
from worker.transport.spec import SOURCE, parse_spec
from worker.types import DeadLettered, Gathered, Outcome, Prepared
from worker.upkeep.retention import Retention

_PrepareStep = Callable[[Sequence[Gathered]], Sequence[Prepared | DeadLettered]]

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint


@contextmanager
def build_pipeline(
    config: Config,
    *,
    source: Source | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Iterator[Pipeline]:
    """Open everything that a run needs, ready and warm; close it again, also after errors.

    Args:
        source: instead of the one that the configuration names.
        on_outcome: told of each acknowledged outcome, on the thread that runs the pipeline.

    Raises:
        ConfigError: something named in the configuration cannot be used.
        TransientError: the store is away.
        FatalError: the store belongs to another model.
    """
    configure_logging(config.log_level, config.log_format)
    metrics, health = Metrics(STAGES), Health(config.health)
    with ExitStack() as stack:
        if config.metrics.port is not None:
            stack.enter_context(serving(metrics, health, config.metrics.address, config.metrics.port))
        opened = source or open_source(config, metrics)
        stack.push(lambda kind, error, trace: opened.close(clean=_is_clean(error)))
        breaker = Breaker("Redis")
        redis = open_redis(config.redis, metrics, breaker)
        if redis is not None:
            stack.enter_context(closing(redis))
        sinks = open_sinks(config, metrics, EmittedPairs(redis, config.redis.emitted_days), stack)
        checkpoints = _load(config)
        for checkpoint in checkpoints:
            metrics.serves(checkpoint.model_id)
        models = open_serving(config, checkpoints, stack)
        metrics.watch_device(models.device_seconds)
        models.watch_store(metrics.store_called)
        media = _open_media(config.media_store)  # after the store, in whose folder it may lie
        checks = _retention(config, models, metrics, media, stack)
        checks.append(stack.enter_context(models.announcement()).check)
        limits = ImageLimits(
            max_bytes=config.limits.image_bytes,
            max_pixels=config.limits.image_pixels,
            budget=PixelBudget(config.limits.decode_pixels),
        )
        times = StageTimes()
        steps = Steps(
            gather=lambda: open_gather(config, limits, metrics, breaker),
            prepare=_each(_preparer(config, models, limits, media).prepare),
            encode=models.encode_step(),
            index=models.index_step(still_ours(opened)),
            match=models.match_step(),
            emit=Emit(
                sinks.matches,
                sinks.dead_letters,
                sinks.outcomes,
                times=times,
                metrics=metrics,
                limits=sinks.limits,
            ),
            times=times,
        )
        stack.enter_context(settled_heap())
        yield Pipeline(
            opened,
            steps,
            settings=_settings(config, models.image_bytes),
            metrics=metrics,
            health=health,
            attempts=NoAttempts() if redis is None else RedisAttempts(redis, config.kafka.group),
            guard=DeadLetterGuard(config.dead_letter_limits),
            checks=[*checks, HeapTrimmer()],
            trial=try_records(config, media_root(config)) if source is None else None,
            on_outcome=on_outcome,
        )


def _is_clean(error: BaseException | None) -> bool:
    """Whether no record in flight may be to blame for the end of the run."""
    return error is None or (isinstance(error, WorkerError) and not isinstance(error, Crash))


def _load(config: Config) -> list[Checkpoint]:
    """The checkpoint of `model` and, where there is one, of `next_model`."""
    return [load_checkpoint(name) for name in (config.model, config.next_model) if name is not None]


def _open_media(place: str | None) -> MediaStore | None:
    if not place:
        return None
    media = MediaStore(place)
    media.check()
    return media


def _retention(
    config: Config, models: Serving, metrics: Metrics, media: MediaStore | None, stack: ExitStack
) -> list[Callable[[], None]]:
    if config.retention_days is None:
        return []
    retention = Retention(models.stored(), config.retention_days, metrics, media)
    stack.enter_context(retention)
    return [retention.check]


def _preparer(config: Config, models: Serving, limits: ImageLimits, media: MediaStore | None) -> Preparer:
    image_size, resize_mode = models.first.input
    return Preparer(
        LocalLoader(media_root(config), limits.max_bytes),
        image_size=image_size,
        resize_mode=resize_mode,
        limits=limits,
        fits=models.fits,
        media=media,
        media_side=config.media_side,
        next_input=None if models.next is None else models.next.input,
    )


def _each(prepare: Callable[[Gathered], Prepared | DeadLettered]) -> _PrepareStep:
    return lambda posts: [prepare(post) for post in posts]


def _settings(config: Config, image_bytes: int) -> Settings:
    limits = config.limits
    return Settings(
        in_flight_bytes=limits.in_flight_bytes,
        in_flight_posts=limits.in_flight_posts,
        uncommitted_posts=limits.uncommitted_posts,
        image_bytes=image_bytes,
        gather_places=config.llm.concurrency if config.llm.base_url else config.fetch.concurrency,
        prepare_threads=config.prepare.threads,
        attempts=limits.attempts,
        encode=Batching(
            config.encode.batch_size, config.encode.linger_ms / 1000, threads=_encode_threads(config)
        ),
        posts=PostLimits(record_bytes=limits.record_bytes, text_bytes=limits.text_bytes),
        drain_deadline_s=_drain_deadline_s(config),
        commit_interval_s=config.commit_interval_s,
    )


def _encode_threads(config: Config) -> int:
    """On a GPU two: one copies while the other computes. A processor's cores share each batch anyway."""
    return config.encode.threads or (2 if config.device.startswith("cuda") else 1)


def _drain_deadline_s(config: Config) -> float:
    """At a terminal a stop takes seconds; a worker of a stream has time to finish its work."""
    if config.drain_deadline_s is not None:
        return config.drain_deadline_s
    return 1.5 if parse_spec(config.source, SOURCE).kind == "file" else 20.0
