"""The stages of the worker by themselves: each alone over the same posts, and a loop without overlap."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.flow.intake import Decoded
from worker.flow.pipeline import Settings
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.posts import decode_post
from worker.sections import HealthConfig
from worker.stages.async_stage import AsyncStage
from worker.stages.chain import STAGES, Steps, stage_batching
from worker.stages.stage import Batching, Stage
from worker.transport.base import Record
from worker.types import Encoded, Gathered, Prepared

_WORTH_PASSING_ON = (Gathered, Prepared, Encoded)
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Alone:
    """One stage with nothing else running.

    Args:
        posts: that it was given; what an earlier stage refused is not among them.
        cpu_s: that all threads of this process computed; the store's process is not in it.
    """

    name: str
    posts: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Posts a second."""
        return self.posts / self.wall_s


def decoded(records: Sequence[Record], settings: Settings) -> list[Decoded]:
    """Records as the first stage takes them."""
    return [Decoded(record, decode_post(record, settings.posts)) for record in records]


def each_alone(steps: Steps, posts: Sequence[Decoded], settings: Settings) -> list[Alone]:
    """Send all posts through the first stage, then all that came out through the next, and so on.

    Each stage has the threads and the batches that it has in the worker, and all of its input at once.

    Args:
        steps: of a pipeline that does not run, with an empty store: what they write is written.

    Raises:
        WorkerError: a stage failed.
    """
    batching = stage_batching(settings.prepare_threads, settings.encode)
    items: list[Any] = list(posts)
    found = []
    for name in STAGES:
        alone, results = _alone(name, steps, items, batching)
        found.append(alone)
        items = results if name == "match" else [one for one in results if isinstance(one, _WORTH_PASSING_ON)]
    return found


def one_by_one(steps: Steps, posts: Sequence[Decoded]) -> list[float]:
    """Each post through every stage before the next begins: no overlap, no batches.

    Returns:
        Seconds of each post that every stage let through.
    """

    async def run() -> list[float]:
        seconds = []
        async with steps.gather() as gather:
            for post in posts:
                begun_s = time.perf_counter()
                gathered = await gather(post)
                if isinstance(gathered, Gathered) and _finish(steps, gathered):
                    seconds.append(time.perf_counter() - begun_s)
        return seconds

    return asyncio.run(run())


def _finish(steps: Steps, post: Gathered) -> bool:
    (prepared,) = steps.prepare([post])
    if not isinstance(prepared, Prepared):
        return False
    (encoded,) = steps.encode([prepared])
    if not isinstance(encoded, Encoded):
        return False
    (stored,) = steps.index([encoded])
    if not isinstance(stored, Encoded):
        return False
    steps.emit(steps.match([stored]))
    return True


def _alone(
    name: str, steps: Steps, items: Sequence[Any], batching: dict[str, Batching]
) -> tuple[Alone, list[Any]]:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    abandon = threading.Event()
    stage = _stage(name, steps, max(1, len(items)), batching, done, abandon)
    results = []
    try:
        cpu_s, begun_s = time.process_time(), time.perf_counter()
        if isinstance(stage, Stage):
            _put_all(stage.put, items)
            stage.start()
        else:
            stage.start()
            _put_all(stage.put, items)
        for _ in items:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    finally:
        abandon.set()
        stage.join(_JOIN_S)
    return Alone(name, len(items), wall_s, cpu_s), results


def _put_all(put: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        put(item)


def _stage(
    name: str,
    steps: Steps,
    capacity: int,
    batching: dict[str, Batching],
    done: queue.SimpleQueue[Any],
    abandon: threading.Event,
) -> Stage[Any, Any] | AsyncStage[Any, Any]:
    metrics, health = Metrics(STAGES), Health(HealthConfig())

    def failed(stage: str, error: BaseException) -> None:
        done.put(error)

    if name == "gather":
        return AsyncStage(
            name,
            steps.gather,
            hand_on=done.put,
            failed=failed,
            metrics=metrics,
            health=health,
            abandon=abandon,
            done=_ignore,
            places=capacity,
        )
    return Stage(
        name,
        getattr(steps, name),
        hand_on=done.put,
        failed=failed,
        capacity=capacity,
        metrics=metrics,
        health=health,
        abandon=abandon,
        batching=batching[name],
        done=_ignore,
    )


def _ignore(item: object, seconds: float) -> None:
    """Times are taken from outside."""
