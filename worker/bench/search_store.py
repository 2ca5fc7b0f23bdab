"""The embedded store that `entityclip bench search` fills and asks, as the worker would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np

from worker.bench.search_vectors import SearchVectors, Vectors
from worker.errors import FatalError
from worker.index import Point, Search, VectorIndex, VectorName, Where
from worker.store.client import Store, open_store
from worker.store.files import FileLock, StoreFiles
from worker.store.upkeep import OPTIMIZE_AFTER

TOP = 10
DAYS = 100  # the points' dates go round so many days; a filter of one day keeps one point in as many
_STARTED = datetime(2024, 1, 1, tzinfo=UTC)
_BATCH = 1024
_LEAVE_S = 120.0
_BUILD_S = 900.0
_POLL_S = 0.05
_PROBE_PAUSE_S = 0.01
_KIND_NUMBER: dict[VectorName, int] = {"image": 1, "text": 2}
_ROW = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a store was filled.

    Args:
        load_s: until the last point was acknowledged.
        build_s: while search graphs were built after that; 0 if none were due.
        indexed: points in a search graph in the end; the others are scanned.
        waits_s: of each search while the graphs were built.
    """

    points: int
    load_s: float
    build_s: float
    indexed: int
    waits_s: tuple[float, ...]


class SearchStore:
    """An open store of `count` points, half of them pictures, half texts."""

    def __init__(self, folder: Path, vectors: SearchVectors, count: int) -> None:
        self.vectors, self.count = vectors, count
        self._collections = StoreFiles(folder).collections
        self._store: Store = open_store(str(folder))
        self._index = VectorIndex(self._store, "benchmark", "model", vectors.images.shape[1])

    def close(self) -> None:
        self._index.close()

    def load(self) -> Loaded:
        """Store all points, then wait until the store has built the search graphs that are due.

        Raises:
            FatalError: it does not build them.
        """
        self._index.open_or_create()
        started = time.perf_counter()
        points = self._points()
        while batch := list(islice(points, _BATCH)):
            self._index.upsert(batch)
        load_s = time.perf_counter() - started
        build_s, waits_s = self._wait_for_graphs()
        return Loaded(self.count, load_s, build_s, self._indexed(), tuple(waits_s))

    def stored(self, using: VectorName) -> Vectors:
        """What a search by this vector looks through; the row is the point's. [N, D]."""
        return (self.vectors.images if using == "image" else self.vectors.texts)[: self.count // 2]

    def search(self, using: VectorName, queries: Vectors, days: list[int | None]) -> list[list[int]]:
        """Rows of the ten nearest points of each query, by one request to the store.

        Args:
            days: for each query the day that its points must have; None for any.
        """
        searches = [
            Search(using, query, limit=TOP, where=_on(day), fields=("post_id",))
            for query, day in zip(queries, days, strict=True)
        ]
        return [[UUID(hit.id).int & _ROW for hit in hits] for hits in self._index.search(searches)]

    def _points(self) -> Iterator[Point]:
        """Pictures and texts in turn."""
        for row in range(self.count // 2):
            yield _point("image", row, self.vectors.images[row])
            yield _point("text", row, self.vectors.texts[row])

    def _indexed(self) -> int:
        info = self._store.call(self._store.client.get_collection, self._index.collection)
        return info.indexed_vectors_count or 0

    def _wait_for_graphs(self) -> tuple[float, list[float]]:
        """Seconds of building, and of each search meanwhile."""
        build_s, waits_s = 0.0, list[float]()
        until = time.monotonic() + _BUILD_S
        while self._is_building() or self.count - self._indexed() >= OPTIMIZE_AFTER:
            while not self._is_building():  # it begins once nothing was asked of it for a while
                if time.monotonic() > until:
                    raise FatalError(f"the store built no search graphs in {_BUILD_S:.0f} s")
                time.sleep(_POLL_S)
            started = time.perf_counter()
            waits_s += self._probe_while_building()
            build_s += time.perf_counter() - started
        return build_s, waits_s

    def _probe_while_building(self) -> Iterator[float]:
        """Seconds of one search after the other."""
        number = 0
        queries = self.vectors.queries["text→image"]
        while self._is_building():
            started = time.perf_counter()
            self.search("image", queries[number % len(queries)][None], [None])
            yield time.perf_counter() - started
            number += 1
            time.sleep(_PROBE_PAUSE_S)

    def _is_building(self) -> bool:
        """Whether a copy of the collection's shard lies beside it, on which graphs are built."""
        return any(
            sum(path.is_dir() for path in collection.glob("shard*")) > 1
            for collection in self._collections.iterdir()
        )


@contextmanager
def filled_store(vectors: SearchVectors, count: int) -> Iterator[tuple[SearchStore, Loaded]]:
    """A filled store in a temporary folder, which is deleted once the store's process has left."""
    with TemporaryDirectory(prefix="entityclip-bench-") as place:
        folder = Path(place)
        store = SearchStore(folder, vectors, count)
        try:
            yield store, store.load()
        finally:
            store.close()
            with nobody_serves(folder):
                pass


@contextmanager
def nobody_serves(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; blocks until the process that serves it has left, up to two minutes.

    Raises:
        TimeoutError: it did not.
    """
    with FileLock(StoreFiles(folder).store_lock) as owner:
        if not owner.wait_exclusive(_LEAVE_S):
            raise TimeoutError(f"the process that serves {folder} did not end")
        yield


def rows_on(day: int | None, count: int) -> np.ndarray:
    """The rows below `count` that a search for this day may find."""
    return np.arange(0, count) if day is None else np.arange(day, count, DAYS)


def _on(day: int | None) -> Where:
    return Where() if day is None else Where(published_from=_dated(day), published_to=_dated(day))


def _point(kind: VectorName, row: int, vector: Vectors) -> Point:
    payload = {"post_id": f"{kind}-{row}", "kind": kind, "published_at": _dated(row)}
    return Point(str(UUID(int=(_KIND_NUMBER[kind] << 64) + row)), {kind: vector}, payload)


def _dated(row: int) -> datetime:
    return _STARTED + timedelta(days=row % DAYS)
