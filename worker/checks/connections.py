"""One look at everything that the configuration names: does it answer, and does it fit?

Nothing is written that stays: a store that does not exist yet is not made.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from worker.config import Config, without_passwords
from worker.errors import ConfigError, ExitCode, FatalError, TransientError, WorkerError
from worker.printable import one_line
from worker.sections import KafkaConfig

BOUND_S = 10.0
_KAFKA_BOUND_S = 25.0  # its client gives up after 10 s by itself, and then finds out why
_MODEL_BOUND_S = 300.0  # importing torch and reading weights is no connection
_STORE_TIMEOUT_S = 8.0
_DETAIL_CHARS = 600
_KAFKA = "kafka:"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Args:
        look: says in one line what it found; raises a WorkerError where that is bad.
        bound_s: how long it is waited for.
    """

    name: str
    look: Callable[[], str]
    bound_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found.

    Args:
        detail: one line, without passwords.
        code: an `ExitCode`; DONE where all is well.
    """

    name: str
    detail: str
    code: int


def run_checks(config: Config, *, bound_s: float = BOUND_S) -> Iterator[Result]:
    """Make every check that the configuration asks for, all at once, each on a thread of its own.

    Args:
        bound_s: of each connection but Kafka's.

    Yields:
        Their results in a fixed order. A check that does not come back in its time is given up; its thread
        is left behind.
    """
    plan = _Plan(config)
    begun_s = time.monotonic()
    running = [(check, _start(check)) for check in plan.checks(bound_s)]
    for check, future in running:
        yield _result(check.name, partial(_wait, check, future, begun_s))
    if plan.can_agree:
        yield _result("agreement", plan.agreement)


class _Plan:
    """The checks, and the ids that must agree in the end: each is written by one thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.served: str | None = None
        self.model: str | None = None
        self.next_model: str | None = None

    @property
    def can_agree(self) -> bool:
        """Whether every model that is named could be read, and there is another id to compare with."""
        if self._config.next_model is not None:
            return self.model is not None and self.next_model is not None
        return self.served is not None and self.model is not None

    def checks(self, bound_s: float) -> Iterator[Check]:
        config = self._config
        yield Check("store", self._store, bound_s)
        if config.source and config.sink:
            yield Check("places", self._places, bound_s)
        if any((spec or "").startswith(_KAFKA) for spec in _specs(config)):
            yield Check("kafka", self._kafka, _KAFKA_BOUND_S)
        if config.redis.url is not None:
            yield Check("redis", self._redis, bound_s)
        if config.llm.base_url is not None:
            yield Check("llm", self._llm, bound_s)
        if config.fetch.allow_networks:
            yield Check("fetch", self._fetch, bound_s)
        if config.media_store is not None:
            yield Check("media store", self._media, bound_s)
        yield Check("model", self._model, _MODEL_BOUND_S)
        if config.next_model is not None:
            yield Check("next model", self._next_model, _MODEL_BOUND_S)

    def agreement(self) -> str:
        named = [id_ for id_ in (self.model, self.next_model) if id_ is not None]
        if len(set(named)) < len(named):
            raise ConfigError(f"`model` and `next_model` are the same model, {self.model}")
        if self.served is None:
            return f"the configuration names {' and '.join(named)}"
        if self.served not in named:
            raise FatalError(
                f"the store was filled by model {self.served}, the configuration names "
                f"{' and '.join(named)}: use that model, or another store or alias"
            )
        return f"store and configuration name the same model {self.served}"

    def _store(self) -> str:
        from worker.index import served_model
        from worker.store.client import open_store

        target, alias = self._config.store, self._config.alias
        if target and "://" not in target and _is_empty(Path(target).expanduser()):
            return f"nothing in {target} yet; `run` makes it ({_writable(Path(target).expanduser())})"
        timeout_s = min(self._config.store_timeout_s or _STORE_TIMEOUT_S, _STORE_TIMEOUT_S)
        with open_store(
            target, api_key=self._config.store_api_key, timeout_s=timeout_s, create=False
        ) as store:
            version = store.call(store.client.info)
            engine = f"{version.title} {version.version}"
            self.served = served_model(store, alias)
            if self.served is None:
                return f"{engine}; no alias {alias!r} yet; `run` makes it"
            points = store.call(store.client.count, alias, exact=True).count
            return f"{engine}; {alias!r} holds {points} points of model {self.served}"

    def _places(self) -> str:
        from worker.endpoints import check_places, dead_letters_spec

        config = self._config
        check_places(config)
        outcomes = f", outcomes to {config.outcomes}" if config.outcomes else ""
        return f"{config.source} to {config.sink}, dead letters to {dead_letters_spec(config)}{outcomes}"

    def _kafka(self) -> str:
        from worker.transport.kafka.clients import check

        kafka = self._config.kafka
        return "; ".join([check(kafka), *(_topic(kafka, name) for name in _topics(self._config))])

    def _redis(self) -> str:
        from worker.coordination.redis import check

        return check(self._config.redis)

    def _llm(self) -> str:
        from worker.checks.llm import check

        return check(self._config.llm)

    def _fetch(self) -> str:
        from worker.fetch.addresses import AddressPolicy

        allowed = AddressPolicy.of(self._config.fetch.allow_networks).allowed
        return f"{', '.join(map(str, allowed))} may be fetched from"

    def _media(self) -> str:
        from worker.media import MediaStore, folder_of

        place = self._config.media_store or ""
        folder = folder_of(place)
        if folder is not None:
            return _writable(folder)
        MediaStore(place).check()
        return f"{place} can be written to"

    def _model(self) -> str:
        self.model, line = _load(self._config.model)
        return line

    def _next_model(self) -> str:
        self.next_model, line = _load(self._config.next_model or "")
        return line


def _load(model: str) -> tuple[str, str]:
    """A checkpoint's id, and what there is to say of it."""
    from worker.serving import load_checkpoint

    checkpoint = load_checkpoint(model)
    id_ = checkpoint.model_id
    return id_, f"{model}: {id_}, {checkpoint.config.architecture.embed_dim}-d"


def _specs(config: Config) -> tuple[str | None, ...]:
    return config.source, config.sink, config.dead_letters, config.outcomes


def _topics(config: Config) -> list[str]:
    """The topics that are named, or meant where nothing is named."""
    from worker.endpoints import dead_letters_spec

    specs = {config.source, config.sink, config.dead_letters or "", config.outcomes or ""}
    if config.source and config.sink:
        specs.add(dead_letters_spec(config))
    return sorted(spec.removeprefix(_KAFKA) for spec in specs if spec.startswith(_KAFKA))


def _topic(config: KafkaConfig, name: str) -> str:
    from worker.transport.kafka.topics import partition_numbers

    if partitions := len(partition_numbers(config, name)):
        return f"{name} has {partitions} partition{'s' if partitions > 1 else ''}"
    if not config.create_topics:
        raise ConfigError(f"Kafka has no topic {name} and kafka.create_topics is off")
    return f"no topic {name} yet, `run` makes it"


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing there yet; what is there and no folder is left to the store to refuse."""
    try:
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error


def _writable(folder: Path) -> str:
    """Try to write in the folder, or, where it does not exist yet, in the one it will be made in."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return f"{place} can be written to"
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write to {place}: {error.strerror}") from error


def _start(check: Check) -> Future[str]:
    future: Future[str] = Future()

    def look() -> None:
        try:
            future.set_result(check.look())
        except Exception as error:  # the thread's root: whatever it is becomes the check's result
            future.set_exception(error)

    threading.Thread(target=look, name=f"check-{check.name}", daemon=True).start()
    return future


def _wait(check: Check, future: Future[str], begun_s: float) -> str:
    try:
        return future.result(max(0.0, begun_s + check.bound_s - time.monotonic()))
    except TimeoutError as error:
        if future.done():
            raise
        raise TransientError(f"no answer within {check.bound_s:.0f} s") from error


def _result(name: str, look: Callable[[], str]) -> Result:
    try:
        return Result(name, _clean(look()), ExitCode.DONE)
    except WorkerError as error:
        return Result(name, _clean(str(error)), error.exit_code)
    except Exception as error:  # a check's thread ended with something that is no finding
        return Result(name, _clean(f"internal: {type(error).__name__}: {error}"), ExitCode.INTERNAL)


def _clean(line: str) -> str:
    return one_line(without_passwords(line), _DETAIL_CHARS)
