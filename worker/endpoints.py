"""Opening what the configuration names: where posts come from, and where matches, letters and outcomes go."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from worker.config import Config
from worker.coordination.emitted import EmittedPairs
from worker.dead_letters import as_line, key_of_line
from worker.errors import ConfigError
from worker.flow.quarantine import released
from worker.media import folder_of
from worker.observe.metrics import Metrics
from worker.stages.emit import MatchSink, SizeLimits
from worker.transport.base import Sink, Source
from worker.transport.files import FileSource, media_root_of
from worker.transport.jsonl import JsonlSink
from worker.transport.once import OnceSink
from worker.transport.spec import SOURCE, Spec, parse_spec
from worker.wire import decode_match

if TYPE_CHECKING:
    from worker.transport.kafka.sink import Producer


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a run writes.

    Args:
        matches: None where none are to be written.
    """

    matches: MatchSink | None
    dead_letters: Sink
    outcomes: Sink | None
    limits: SizeLimits


def check_places(config: Config) -> None:
    """Hold what is named as source and sinks against each other; nothing is opened.

    Raises:
        ConfigError: no source or sink, a topic that the run itself writes as its source, one place for two
            sinks, or times that a file has none of or that leave nothing to read.
    """
    source, start, until = parse_spec(config.source, SOURCE), config.start_at, config.until
    places = _own_places(config)
    taken: dict[tuple[str, str], str] = {}
    for what, spec in places.items():
        name = spec.name if spec.kind == "kafka" else str(Path(spec.name).resolve())
        other = taken.setdefault((spec.kind, name), what)
        if other != what:  # whoever reads one of them expects nothing else there
            raise ConfigError(f"the {other} and the {what} are both {spec.kind}:{spec.name}: name two places")
    if source.kind == "kafka" and source in places.values():
        raise ConfigError(f"the source {config.source} is where this run writes: name another topic")
    if source.kind == "file" and (start or until):
        raise ConfigError("--from and --until (start_at, until) are for a topic: a file is read to its end")
    if start and until and until <= start:
        raise ConfigError(f"--until {_second(until)} is not after --from {_second(start)}")


def open_source(config: Config, metrics: Metrics) -> Source:
    """Open what posts come from.

    Raises:
        ConfigError: nothing readable there, or as `check_places`.
        TransientError: the broker is away.
    """
    check_places(config)
    spec = parse_spec(config.source, SOURCE)
    if spec.kind == "file":
        own = [*_own_files(config), *_own_folders(config)]
        return FileSource(spec.name, _offsets(config, spec), config.limits.record_bytes, own)
    from worker.transport.kafka.source import KafkaSource  # a third of a second, for those who need it

    return KafkaSource(
        config.kafka, spec.name, metrics, start_at=config.start_at, until=config.until, released=released
    )


def media_root(config: Config) -> Path | None:
    """Below which a post's image paths may lie: as configured, or where a file source lies."""
    if config.media_root:
        return Path(config.media_root)
    spec = parse_spec(config.source, SOURCE)
    return media_root_of(spec.name) if spec.kind == "file" else None


def dead_letters_spec(config: Config) -> str:
    """Where dead letters go: as configured, or beside the source's topic, or beside the sink."""
    if config.dead_letters:
        return config.dead_letters
    source, sink = parse_spec(config.source, SOURCE), parse_spec(config.sink, "sink")
    if source.kind == "kafka":
        return f"kafka:{source.name}.dead"
    if sink.kind == "kafka":
        return f"kafka:{sink.name}.dead"
    return f"file:{_beside(Path(sink.name), 'dead')}.jsonl"


def open_sinks(config: Config, metrics: Metrics, emitted: EmittedPairs, stack: ExitStack) -> Sinks:
    """Open where the run writes; the stack closes it.

    Args:
        emitted: remembers the matches of a topic; a file remembers its own.

    Raises:
        ConfigError: a file that cannot be written, or a topic that cannot be.
        TransientError: the broker is away.
    """
    opener = _Opener(config, metrics, stack)
    letters = parse_spec(dead_letters_spec(config), "dead-letter sink")
    dead_letters: Sink
    if letters.kind == "file":
        dead_letters = open_dead_letter_file(Path(letters.name))
        stack.enter_context(closing(dead_letters))
    else:
        dead_letters = opener.topic(letters.name)
    outcomes: Sink | None = None
    outcome_place = None
    if config.outcomes is not None:
        outcome_place = parse_spec(config.outcomes, "outcome sink")
        outcomes = opener.outcomes(outcome_place)
    match_place = parse_spec(config.sink, "sink") if config.emit else None
    matches = opener.matches(match_place, emitted) if match_place else None
    limits = SizeLimits(*map(opener.limit_bytes, (match_place, letters, outcome_place)))
    return Sinks(matches, dead_letters, outcomes, limits)


def open_matches(
    config: Config, metrics: Metrics, emitted: EmittedPairs, stack: ExitStack
) -> tuple[MatchSink, int | None]:
    """Open where matches go, and nothing else; the stack closes it.

    Returns:
        The sink, and the bytes that a message may have; None for no limit.

    Raises:
        ConfigError, TransientError: as `open_sinks`.
    """
    opener, place = _Opener(config, metrics, stack), parse_spec(config.sink, "sink")
    return opener.matches(place, emitted), opener.limit_bytes(place)


def open_dead_letter_file(path: Path) -> JsonlSink:
    """Open where dead letters go; a letter is written again only where it says something else."""
    return JsonlSink(path, line_of=as_line, key_of=key_of_line, replace=True)


def open_match_file(path: Path) -> JsonlSink:
    """Open where matches go; a match id that stands there is not written again."""
    return JsonlSink(path, key_of=lambda line: decode_match(line).match_id.encode())


class _Opener:
    """Opens sinks; those that are topics share one producer."""

    def __init__(self, config: Config, metrics: Metrics, stack: ExitStack) -> None:
        self._config, self._metrics, self._stack = config, metrics, stack
        self._producer: Producer | None = None

    def matches(self, spec: Spec, emitted: EmittedPairs) -> MatchSink:
        if spec.kind == "kafka":
            return OnceSink(self.topic(spec.name), emitted)
        sink = open_match_file(Path(spec.name))
        self._stack.enter_context(closing(sink))
        return sink

    def outcomes(self, spec: Spec) -> Sink:
        if spec.kind == "kafka":
            return self.topic(spec.name)
        sink = JsonlSink(Path(spec.name))
        self._stack.enter_context(closing(sink))
        return sink

    def topic(self, name: str) -> Sink:
        from worker.transport.kafka.sink import KafkaSink, Producer

        if self._producer is None:
            self._producer = self._stack.enter_context(closing(Producer(self._config.kafka, self._metrics)))
        return KafkaSink(self._config.kafka, name, self._metrics, producer=self._producer)

    def limit_bytes(self, spec: Spec | None) -> int | None:
        """Of one message there; None for no limit."""
        if spec is None or spec.kind == "file":
            return None
        from worker.transport.kafka.topics import max_request_bytes

        return max_request_bytes(self._config.kafka, spec.name)


def _offsets(config: Config, source: Spec) -> Path:
    if config.offsets:
        return Path(config.offsets)
    # What was read belongs to the store it went into: another store starts from the beginning.
    store = config.store if "://" in config.store else str(Path(config.store).expanduser().resolve())
    digest = hashlib.sha256(f"{store}\n{config.alias}".encode()).hexdigest()[:8]
    sink = parse_spec(config.sink, "sink")
    place = Path(sink.name if sink.kind == "file" else source.name)
    return Path(f"{_beside(place, f'offsets-{digest}')}.json")


def _own_places(config: Config) -> dict[str, Spec]:
    """Where the run writes, by what messages call it."""
    specs = {"sink": config.sink, "dead-letter sink": dead_letters_spec(config)}
    if config.outcomes is not None:
        specs["outcome sink"] = config.outcomes
    return {what: parse_spec(spec, what) for what, spec in specs.items()}


def _own_files(config: Config) -> list[Path]:
    return [Path(spec.name) for spec in _own_places(config).values() if spec.kind == "file"]


def _own_folders(config: Config) -> list[Path]:
    folders = [] if "://" in config.store else [Path(config.store).expanduser()]
    media = folder_of(config.media_store) if config.media_store else None
    return folders if media is None else [*folders, media]


def _second(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _beside(path: Path, name: str) -> Path:
    place = path if path.name else path.resolve()  # `.` has no name of its own
    return place.parent / f"{place.name.removesuffix('.jsonl')}.{name}"
