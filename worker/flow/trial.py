"""Trying one record in a process of its own, before it is called a killer.

A worker may be killed from outside, by chance twice while the same good record was alone in flight. So the
charges alone condemn nobody: the record first runs through a whole pipeline in another process, whose end
tells. It writes no match, no letter and no outcome; what it stores, the worker would store too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from worker.config import Config
from worker.errors import ExitCode
from worker.sections import DeadLetterLimits, MetricsConfig
from worker.transport.base import Partition, Record

TIMEOUT_S = 180.0
ENTRY = "worker.cli.main"
COMMAND = "try-record"
# These say that something beside the record was wrong, or that somebody ended it: they condemn nobody.
_NOT_THE_RECORD = (
    *(ExitCode.DONE, ExitCode.UNAVAILABLE, ExitCode.CONFIG, ExitCode.USAGE, ExitCode.INTERRUPTED),
    *(-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP),
)

log = structlog.stdlib.get_logger("worker.trial")


class Trial(msgspec.Struct, frozen=True):
    """What the other process is told: the configuration to run with, and the record."""

    config: Config
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None

    def record(self) -> Record:
        """The record to try."""
        place = Partition(self.topic, self.partition)
        return Record(place, self.offset, _bytes(self.key), _bytes(self.value))


class OneRecord:
    """A source that delivers one record."""

    def __init__(self, record: Record) -> None:
        self._left = [record]

    def poll(self, timeout_s: float) -> Sequence[Record]:
        delivered, self._left = self._left, []
        return delivered

    def pause(self) -> None:
        """There is nothing more to come."""

    def resume(self) -> None:
        """There is nothing more to come."""

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """It is the worker that commits."""

    def mark(self, notes: Mapping[Partition, str]) -> None:
        """It is the worker that knows."""

    def note(self, partition: Partition) -> str:
        return ""

    def epoch(self, partition: Partition) -> int | None:
        return 0

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def away(self) -> str:
        return ""

    def exhausted(self) -> bool:
        return not self._left

    def close(self, *, clean: bool = True) -> None:
        """Nothing is held open."""


def try_records(config: Config, media_root: Path | None) -> Callable[[Record], str]:
    """What tries a record: blocks until the other process ends, some seconds, at most three minutes.

    Never for as long as the main loop may stand still before the worker is called dead: it would be killed
    in the middle, again and again.

    Args:
        media_root: below which the worker takes image paths.

    Returns:
        A function that gives how the process died, in a few words; empty if it lived.
    """

    timeout_s = min(TIMEOUT_S, config.health.dead_s / 2)

    def attempt(record: Record) -> str:
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="entityclip-trial-") as folder:
            trial = Trial(
                _quiet(config, media_root, Path(folder)),
                record.partition.topic,
                record.partition.number,
                record.offset,
                _text(record.key),
                _text(record.value),
            )
            how = _run(msgspec.json.encode(trial), timeout_s)
        seconds = round(time.monotonic() - begun_s, 1)
        log.warning(
            "tried alone", partition=record.partition.number, offset=record.offset, died=how, s=seconds
        )
        return how

    return attempt


def _run(trial: bytes, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-m", ENTRY, COMMAND],
            input=trial,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""  # it waits for something; one that hangs is given up after twice as many deaths
    if done.returncode in _NOT_THE_RECORD:
        return ""
    return f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"


def _quiet(config: Config, media_root: Path | None, folder: Path) -> Config:
    """The worker's configuration, with everything that it writes beside the store in a folder of its own."""
    return msgspec.structs.replace(
        config,
        source=f"file:{folder / 'none.jsonl'}",
        sink=f"file:{folder / 'matches.jsonl'}",
        dead_letters=f"file:{folder / 'dead.jsonl'}",
        media_root=None if media_root is None else str(media_root.resolve()),
        outcomes=None,
        emit=False,
        retention_days=None,
        start_at=None,
        until=None,
        metrics=MetricsConfig(),
        dead_letter_limits=DeadLetterLimits(ignore=True),
    )


def _text(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
