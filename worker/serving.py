"""The model that a worker serves, or the two of them while one takes the other's place: their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from worker.config import Config
from worker.errors import ConfigError
from worker.index import VectorIndex
from worker.matching import Matcher, PairEvidence, match_rules
from worker.migrate.roster import Announcement
from worker.shared_model import share_model
from worker.stages.dual import (
    BothCollections,
    DualEncode,
    DualIndex,
    DualMatch,
    EncodeStep,
    IndexResult,
    MatchStep,
    ServedSide,
)
from worker.stages.encode import Encode
from worker.stages.index import Index
from worker.stages.match import Match
from worker.store.client import Store, Watch, open_store
from worker.transport.base import Record
from worker.types import Encoded, TakeDown

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.pictures.decode import ResizeMode
    from model.serving.encoder import Encoder
    from model.serving.towers import Precision

log = structlog.stdlib.get_logger("worker.serving")
IndexStep = Callable[[Sequence[Encoded | TakeDown]], Sequence[IndexResult]]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model with its collection."""

    checkpoint: Checkpoint
    encoder: Encoder
    index: VectorIndex
    encode: Encode
    match: Match

    @property
    def input(self) -> tuple[int, ResizeMode]:
        """Side of its pictures, pixels, and how they get there."""
        return self.encoder.image_size, self.checkpoint.config.preprocess.resize_mode


class Serving:
    """The models of one worker, ready and warm.

    Args:
        models: that of `model` and, if there is one, that of `next_model`.
    """

    def __init__(self, store: Store, alias: str, models: Sequence[ServedModel]) -> None:
        self._store, self._alias = store, alias
        self.models = tuple(models)
        self.first = self.models[0]
        self.next = self.models[1] if len(self.models) > 1 else None

    def fits(self, text: str, explanation: str = "") -> bool:
        """Whether every model reads the whole text: both collections hold the same windows."""
        return all(model.encoder.fits(text, explanation) for model in self.models)

    @property
    def image_bytes(self) -> int:
        """Of the pixels of one picture, for every model."""
        sizes = {model.input for model in self.models}
        return sum(size * size * 3 for size, _ in sizes)

    def device_seconds(self) -> float:
        """How long the device has computed so far."""
        return sum(model.encoder.device_seconds() for model in self.models)

    def watch_store(self, watch: Watch) -> None:
        """Say who is told of each call of the store."""
        self._store.watch = watch

    def announcement(self) -> Announcement:
        """The worker's place on the roster; to be opened."""
        return Announcement(self._store, self._alias, [model.checkpoint.model_id for model in self.models])

    def stored(self) -> VectorIndex | BothCollections:
        """What retention deletes from."""
        if self.next is None:
            return self.first.index
        return BothCollections((self.first.index, self.next.index), self._served_side(self.next))

    def encode_step(self) -> EncodeStep:
        """The work of the encode stage."""
        return self.first.encode if self.next is None else DualEncode(self.first.encode, self.next.encode)

    def index_step(self, is_ours: Callable[[Record], bool]) -> IndexStep:
        """The work of the index stage."""
        if self.next is None:
            return Index(self.first.index, is_ours, self.first.index.check_served)
        return DualIndex((self.first.index, self.next.index), self._served_side(self.next), is_ours)

    def match_step(self) -> MatchStep:
        """The work of the match stage."""
        if self.next is None:
            return self.first.match
        return DualMatch((self.first.match, self.next.match), self._served_side(self.next))

    def _served_side(self, beside: ServedModel) -> ServedSide:
        return ServedSide(self._store, self._alias, (self.first.index.collection, beside.index.collection))


def open_serving(config: Config, checkpoints: Sequence[Checkpoint], stack: ExitStack) -> Serving:
    """Warm the models up and open their collections.

    Args:
        checkpoints: of `model` and, where one is configured, of `next_model`.
        stack: closes everything again.

    Raises:
        ConfigError: the device cannot be used, or both models are the same.
        TransientError: the store is away.
        FatalError: the store belongs to another model.
    """
    ids = [checkpoint.model_id for checkpoint in checkpoints]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"`model` and `next_model` are the same model, {ids[0]}")
    opening = stack.enter_context(_opening_store(config))
    encoders = [open_encoder(checkpoint, config) for checkpoint in checkpoints]
    store = opening.result()
    models = []
    for checkpoint, encoder in zip(checkpoints, encoders, strict=True):
        beside = next((id_ for id_ in ids if id_ != checkpoint.model_id), None)
        index = VectorIndex(store, config.alias, checkpoint.model_id, encoder.dim, beside=beside)
        models.append(_served(config, checkpoint, encoder, index))
    models[0].index.open_or_create()
    for model in models[1:]:
        model.index.create_collection()
    return Serving(store, config.alias, models)


@contextmanager
def _opening_store(config: Config) -> Iterator[Future[Store]]:
    """The store, opened while the models warm up: an embedded one takes seconds to start. Closes it again."""
    with ThreadPoolExecutor(1, thread_name_prefix="store") as pool:
        opening = pool.submit(
            open_store, config.store, api_key=config.store_api_key, timeout_s=config.store_timeout_s
        )
        try:
            yield opening
        finally:
            if opening.exception() is None:
                opening.result().close()


def load_checkpoint(model: str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    from model.checkpoint import CheckpointError, load  # torch takes seconds to import

    try:
        return load(model)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def open_encoder(checkpoint: Checkpoint, config: Config) -> Encoder:
    """The checkpoint's encoder on the configured device, warm.

    Raises:
        ConfigError: the device cannot be used.
    """
    from model.serving.encoder import BatchLimits, Encoder

    encode = config.encode
    limits = BatchLimits(encode.batch_rows, encode.batch_tokens, encode.batch_pixels)
    try:
        precision = _precision(checkpoint, config)
        encoder = Encoder.of(
            checkpoint, device=config.device, limits=limits, precision=precision, compiled=encode.compile
        )
        encoder.warm_up()
    except (RuntimeError, AssertionError) as error:  # torch built without it, or no such device
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the device {config.device!r} cannot be used: {line}") from error
    return encoder


def _precision(checkpoint: Checkpoint, config: Config) -> Precision:
    """As configured, or what a trial on the device says; the choice stands in the log."""
    import torch

    from model.serving.precision import choose_precision

    if config.encode.precision != "auto":
        return config.encode.precision
    backbone = checkpoint.model.eval().to(config.device).backbone
    choice = choose_precision(backbone, torch.device(config.device))
    log.info("precision", model_id=checkpoint.model_id, device=config.device, chosen=choice.line())
    return choice.precision


def _served(config: Config, checkpoint: Checkpoint, encoder: Encoder, index: VectorIndex) -> ServedModel:
    rules = match_rules(config.match, checkpoint.config.matching, checkpoint.model_id)
    shared = share_model(checkpoint, encoder, rules)
    return ServedModel(
        checkpoint,
        encoder,
        index,
        Encode(shared, checkpoint.model_id, head=shared if rules.asks_head else None),
        Match(
            Matcher(index.search, rules, evidence=PairEvidence(rules, index.get, shared, search=index.search))
        ),
    )
