"""Measuring ways of doing the same work in turns, so that what else the machine does touches all alike.

    turns = run_in_turns({"ours": ours, "naive": naive}, rounds=5)
    turns.ratio("naive", "ours").median   # how many times as long the naive way takes
    turns.seconds("ours").median          # wall clock
    turns.results("ours")[-1]             # what the function returned in the last round

Warm the ways up before: nothing here is run without being counted.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")
Clock = Literal["wall", "cpu"]


class Spread(msgspec.Struct, frozen=True):
    """A number that was measured several times: median, least and greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """One way, once.

    Args:
        wall_s: seconds that passed.
        cpu_s: seconds that all threads of this process computed; child processes are not in it.
        result: what the function returned.
    """

    wall_s: float
    cpu_s: float
    result: T


@dataclass(frozen=True, slots=True)
class Turns(Generic[T]):
    """What `run_in_turns` found: name of the way -> its run in each round."""

    runs: Mapping[str, tuple[Run[T], ...]]

    def seconds(self, name: str, clock: Clock = "wall") -> Spread:
        """How long the way took, over the rounds."""
        return Spread.of(self._times(name, clock))

    def rate(self, name: str, items: int) -> Spread:
        """Items per second of wall time, over the rounds."""
        return Spread.of([items / seconds for seconds in self._times(name, "wall")])

    def ratio(self, name: str, over: str, clock: Clock = "wall") -> Spread:
        """How many times the time of `over` the way `name` took: each round's ratio, then their median."""
        pairs = zip(self._times(name, clock), self._times(over, clock), strict=True)
        return Spread.of([one / other for one, other in pairs])

    def results(self, name: str) -> list[T]:
        """What the way returned in each round."""
        return [run.result for run in self.runs[name]]

    def _times(self, name: str, clock: Clock) -> list[float]:
        return [run.wall_s if clock == "wall" else run.cpu_s for run in self.runs[name]]


def run_in_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> Turns[T]:
    """Run every way once a round, every second round in the opposite order; on the calling thread.

    Raises:
        ValueError: no way, or no rounds.
    """
    if not ways or rounds < 1:
        raise ValueError("there is nothing to measure without ways and rounds")
    runs: dict[str, list[Run[T]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            runs[name].append(timed(ways[name]))
    return Turns({name: tuple(done) for name, done in runs.items()})


def timed(work: Callable[[], T]) -> Run[T]:
    """Run a function once, by both clocks."""
    gc.collect()  # another way's rubbish is not this way's work
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Run(time.perf_counter() - wall, time.process_time() - cpu, result)


@dataclass(slots=True)
class PartClock:
    """Where one way's time goes: CPU seconds of the process by part of the work.

    with clock.part("decode"):
        image.load()
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block; other threads that compute meanwhile are counted too."""
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
