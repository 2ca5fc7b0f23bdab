"""Three ways to the ten nearest points: a scan with numpy, one request a query, and requests of many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from worker.bench.rounds import Turns, run_in_turns
from worker.bench.search_store import DAYS, TOP, SearchStore, rows_on
from worker.bench.search_vectors import Vectors
from worker.index import VectorName

SCAN, SINGLE, BATCHED = "numpy scan", "a request a query", "a request of many"
_TIE = 1e-5  # the engine sums in another order


@dataclass(frozen=True, slots=True)
class Found:
    """Of one round over all queries.

    Args:
        rows: of each query, best first.
        seconds: of each request.
    """

    rows: list[list[int]]
    seconds: list[float]


@dataclass(frozen=True, slots=True)
class Answers:
    """One direction, with or without the filter.

    Args:
        recall, worst: share of the ten best that the store found, 0 to 1: mean, and of the worst query.
        times: of each way, over all queries.
    """

    points: int
    direction: str
    filtered: bool
    queries: int
    recall: float
    worst: float
    times: Turns[Found]


def ask(store: SearchStore, direction: str, rounds: int, batch: int, *, filtered: bool) -> Answers:
    """Ask everything in every way, in turns, after one round to warm up.

    Args:
        batch: queries a request, of the way that asks many at once.
        filtered: by time, so that one point in a hundred is left.
    """
    using: VectorName = "image" if direction.endswith("image") else "text"
    queries = store.vectors.queries[direction]
    days = [number % DAYS if filtered else None for number in range(len(queries))]
    ways = _ways(store, using, queries, days, batch)
    for way in ways.values():
        way()
    times = run_in_turns(ways, rounds)
    stored, found = store.stored(using), times.results(BATCHED)[-1].rows
    recalls = [
        recall(stored @ query, rows_on(day, len(stored)), rows)
        for query, day, rows in zip(queries, days, found, strict=True)
    ]
    return Answers(store.count, direction, filtered, len(queries), fmean(recalls), min(recalls), times)


def recall(cosines: Vectors, allowed: np.ndarray, found: list[int]) -> float:
    """Tie-aware recall@10: of the ten best, how many were found, another one of the same cosine counting too.

    Args:
        cosines: [N] exact, of the query and every stored vector.
        allowed: rows that pass the filter.
        found: rows of the hits, at most ten.
    """
    wanted = min(TOP, len(allowed))
    if not wanted:
        return 1.0
    least = np.partition(cosines[allowed], -wanted)[-wanted] - _TIE
    passing = set(allowed.tolist())
    return sum(row in passing and bool(cosines[row] >= least) for row in set(found)) / wanted


def scan(stored: Vectors, query: Vectors, day: int | None) -> list[int]:
    """The ten best rows by an exact scan, best first. [N, D], [D]."""
    first, step = (0, 1) if day is None else (day, DAYS)
    cosines = stored[first::step] @ query
    best = np.argpartition(cosines, -TOP)[-TOP:] if len(cosines) > TOP else np.arange(len(cosines))
    ordered = best[np.argsort(-cosines[best])]
    return [first + step * int(row) for row in ordered]


def _ways(
    store: SearchStore, using: VectorName, queries: Vectors, days: list[int | None], batch: int
) -> Mapping[str, Callable[[], Found]]:
    stored = store.stored(using)

    def some(start: int, size: int) -> list[list[int]]:
        return store.search(using, queries[start : start + size], days[start : start + size])

    def scanned(start: int) -> list[list[int]]:
        return [scan(stored, queries[start], days[start])]

    return {
        SCAN: partial(_timed, scanned, len(queries), 1),
        SINGLE: partial(_timed, lambda start: some(start, 1), len(queries), 1),
        BATCHED: partial(_timed, lambda start: some(start, batch), len(queries), batch),
    }


def _timed(request: Callable[[int], list[list[int]]], queries: int, step: int) -> Found:
    found = Found([], [])
    for start in range(0, queries, step):
        started = time.perf_counter()
        rows = request(start)
        found.seconds.append(time.perf_counter() - started)
        found.rows.extend(rows)
    return found
