"""From a configuration to a running pipeline, and everything closed again in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from worker.config import Config
from worker.errors import ConfigError
from worker.index import VectorIndex
from worker.intake import Decoded
from worker.logs import configure_logging
from worker.matching import Calibration, Matcher, MatchRules
from worker.media import MediaStore
from worker.metrics import Metrics
from worker.pipeline import Pipeline, Settings
from worker.posts import PostLimits
from worker.prepare import LocalLoader, Preparer
from worker.stages.chain import STAGES, Steps
from worker.stages.emit import Emit
from worker.stages.encode import Encode
from worker.stages.index import Index
from worker.stages.match import Match
from worker.stages.stage import Batching
from worker.store.client import open_store
from worker.transport.files import FileSource
from worker.transport.spec import (
    file_path,
    open_dead_letter_sink,
    open_match_sink,
    open_outcome_sink,
    open_source,
)
from worker.types import DeadLettered, Outcome, Prepared

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.encoder import Encoder


@contextmanager
def build_pipeline(
    config: Config, *, on_outcome: Callable[[Outcome], None] | None = None
) -> Iterator[Pipeline]:
    """Open everything that a run needs, ready and warm; close it again, also after errors.

    Args:
        on_outcome: told of each acknowledged outcome, on the thread that runs the pipeline.

    Raises:
        ConfigError: something named in the configuration cannot be used.
        TransientError: the store is away.
        FatalError: the store belongs to another model.
    """
    configure_logging(config.log_level)
    with ExitStack() as stack:
        source = stack.enter_context(closing(_open_source(config)))
        emit = _open_emit(config, stack)
        checkpoint = _load(config.model)
        encoder = _encoder(checkpoint, config)
        index = _open_index(config, stack, checkpoint.model_id, encoder.dim)
        metrics = Metrics(STAGES, checkpoint.model_id)
        if config.metrics.port is not None:
            stack.enter_context(metrics.serving(config.metrics.address, config.metrics.port))
        preparer = _preparer(config, source, checkpoint, encoder)
        steps = Steps(
            prepare=lambda posts: [_prepare(preparer, post) for post in posts],
            encode=Encode(encoder, checkpoint.model_id),
            index=Index(index),
            match=Match(Matcher(index.search, _rules(config, checkpoint))),
            emit=emit,
        )
        settings = _settings(config, encoder.image_size)
        yield Pipeline(source, steps, settings=settings, metrics=metrics, on_outcome=on_outcome)


def dead_letters_spec(config: Config) -> str:
    """Where dead letters go: as configured, or beside the sink."""
    return config.dead_letters or f"file:{_beside_sink(config, 'dead')}.jsonl"


def calibration(checkpoint: Checkpoint, threshold: float | None = None) -> Calibration:
    """The checkpoint's, with another threshold if one is given."""
    fitted = checkpoint.config.matching
    return Calibration(fitted.slope, fitted.intercept, fitted.threshold if threshold is None else threshold)


def _open_source(config: Config) -> FileSource:
    if config.offsets:
        offsets = Path(config.offsets)
    else:
        # What was read belongs to the store it went into: another store starts from the beginning.
        store = config.store if "://" in config.store else str(Path(config.store).expanduser().resolve())
        digest = hashlib.sha256(f"{store}\n{config.alias}".encode()).hexdigest()[:8]
        offsets = Path(f"{_beside_sink(config, f'offsets-{digest}')}.json")
    return open_source(
        config.source,
        offsets=offsets,
        record_bytes=config.limits.record_bytes,
        leave_out=[*_own_files(config), *_own_folders(config)],
    )


def _own_files(config: Config) -> list[Path]:
    specs = {"sink": config.sink, "dead-letter sink": dead_letters_spec(config)}
    if config.outcomes is not None:
        specs["outcome sink"] = config.outcomes
    return [Path(file_path(spec, what)) for what, spec in specs.items()]


def _own_folders(config: Config) -> list[Path]:
    folders = [] if "://" in config.store else [config.store]
    if config.media_store:
        folders.append(config.media_store)
    return [Path(folder).expanduser() for folder in folders]


def _beside_sink(config: Config, name: str) -> Path:
    sink = Path(file_path(config.sink, "sink"))
    return sink.with_name(f"{sink.name.removesuffix('.jsonl')}.{name}")


def _open_emit(config: Config, stack: ExitStack) -> Emit:
    matches = stack.enter_context(closing(open_match_sink(config.sink)))
    dead_letters = stack.enter_context(closing(open_dead_letter_sink(dead_letters_spec(config))))
    if config.outcomes is None:
        return Emit(matches, dead_letters)
    return Emit(matches, dead_letters, stack.enter_context(closing(open_outcome_sink(config.outcomes))))


def _load(model: str) -> Checkpoint:
    from model.checkpoint import CheckpointError, load  # torch takes seconds to import

    try:
        return load(model)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def _encoder(checkpoint: Checkpoint, config: Config) -> Encoder:
    from model.encoder import Encoder

    try:
        encoder = Encoder(
            checkpoint.model,
            checkpoint.config.preprocess,
            device=config.device,
            batch_size=config.encode.batch_size,
        )
        encoder.warm_up()
    except (RuntimeError, AssertionError) as error:  # torch built without it, or no such device
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the device {config.device!r} cannot be used: {line}") from error
    return encoder


def _open_index(config: Config, stack: ExitStack, model_id: str, dim: int) -> VectorIndex:
    store = open_store(config.store, api_key=config.store_api_key, timeout_s=config.store_timeout_s)
    index = stack.enter_context(closing(VectorIndex(store, config.alias, model_id, dim)))
    index.open_or_create()
    return index


def _preparer(config: Config, source: FileSource, checkpoint: Checkpoint, encoder: Encoder) -> Preparer:
    from model.images import ImageLimits

    limits = ImageLimits(max_bytes=config.limits.image_bytes, max_pixels=config.limits.image_pixels)
    root = Path(config.media_root) if config.media_root else source.media_root
    return Preparer(
        LocalLoader(root, limits.max_bytes),
        image_size=encoder.image_size,
        resize_mode=checkpoint.config.preprocess.resize_mode,
        limits=limits,
        fits=encoder.tokenizer.fits,
        media=MediaStore(Path(config.media_store)) if config.media_store else None,
    )


def _prepare(preparer: Preparer, work: Decoded) -> Prepared | DeadLettered:
    return preparer.prepare(work.record, work.post)


def _rules(config: Config, checkpoint: Checkpoint) -> MatchRules:
    days = config.match.window_days
    return MatchRules(
        calibration(checkpoint, config.match.threshold),
        checkpoint.model_id,
        top_k=config.match.top_k,
        max_matches=config.match.max_matches,
        window=None if days is None else timedelta(days=days),
        same_post=config.match.same_post,
    )


def _settings(config: Config, image_size: int) -> Settings:
    limits = config.limits
    return Settings(
        in_flight_bytes=limits.in_flight_bytes,
        in_flight_posts=limits.in_flight_posts,
        uncommitted_posts=limits.uncommitted_posts,
        image_bytes=image_size * image_size * 3,
        prepare_threads=config.prepare.threads,
        encode=Batching(config.encode.batch_size, config.encode.linger_ms / 1000),
        posts=PostLimits(record_bytes=limits.record_bytes, text_bytes=limits.text_bytes),
        drain_deadline_s=1.5 if config.drain_deadline_s is None else config.drain_deadline_s,
        commit_interval_s=config.commit_interval_s,
    )
