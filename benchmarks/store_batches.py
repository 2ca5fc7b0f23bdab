"""What a batch of 64 posts costs at the embedded store, in CPU time of the worker and of the store's process.

    python -m benchmarks.store_batches --dim 128 --points 2000

Random vectors, one text and one picture a post, the requests of the index and the match stage. CPU times say
more than wall times here: the two processes run in turns, and whatever else the machine does is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from worker.bench.search_store import nobody_serves
from worker.index import Point, Search, VectorIndex, Where
from worker.store.client import open_store
from worker.store.files import StoreFiles

_POSTS = 64
_FIELDS = ("post_id", "image_id", "window", "text", "explanation", "entities", "lang", "published_at")
_TEXT = "People with low English proficiency depend on their family and friends for help."


class Costs:
    """CPU seconds by step: of this process, and of the one that serves the store."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add what the block costs."""
        before = time.process_time(), _cpu_s(self._server)
        yield
        worker, server = self._spent.get(step, (0.0, 0.0))
        spent = worker + time.process_time() - before[0], server + _cpu_s(self._server) - before[1]
        self._spent[step] = spent

    def print(self, batches: int) -> None:
        """One line a step, and their sum."""
        totals = tuple(map(sum, zip(*self._spent.values(), strict=True)))
        for step, (worker, server) in [*self._spent.items(), ("all", totals)]:
            print(f"{step:8} worker {worker / batches * 1e3:7.1f} ms  store {server / batches * 1e3:7.1f} ms")


def main() -> None:
    """Measure, and print CPU milliseconds a batch."""
    parser = argparse.ArgumentParser(description="CPU time of a batch of 64 posts at the embedded store.")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--points", type=int, default=2000, help="stored beforehand")
    parser.add_argument("--batches", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open_store(folder) as store:
            index = VectorIndex(store, "posts", "random", arguments.dim)
            index.open_or_create()
            address = json.loads(StoreFiles(Path(folder)).address.read_bytes())
            measure(index, Costs(address["pid"]), arguments.dim, arguments.points, arguments.batches)
        with nobody_serves(Path(folder)):
            pass


def measure(index: VectorIndex, costs: Costs, dim: int, stored: int, batches: int) -> None:
    """Fill the index and send it batches."""
    random = np.random.default_rng(0)

    def vector() -> np.ndarray:
        return random.standard_normal(dim).astype(np.float32)

    for start in range(0, stored, 2 * _POSTS):
        index.upsert(_points(f"stored{start}", vector))
    for batch in range(batches):
        points = _points(f"new{batch}", vector)
        with costs.of("upsert"):
            index.upsert(points)
        with costs.of("stale"):
            posts = {str(point.payload["post_id"]) for point in points}
            index.delete_stale(sorted(posts), [point.id for point in points])
        with costs.of("alias"):
            index.check_served()
        with costs.of("search"):
            index.search([_search(point) for point in points])
    costs.print(batches)


def _points(name: str, vector: Callable[[], np.ndarray]) -> list[Point]:
    return [
        Point(
            str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}-{number}/{kind}")),
            {kind: vector()},
            {"post_id": f"{name}-{number}", "kind": kind, "text": _TEXT, "entities": ["A", "B"], "window": 0},
        )
        for number in range(_POSTS)
        for kind in ("text", "image")
    ]


def _search(point: Point) -> Search:
    ((kind, vector),) = point.vectors.items()
    where = Where(exclude_post=str(point.payload["post_id"]))
    return Search("image" if kind == "text" else "text", vector, 20, where, fields=_FIELDS)


def _cpu_s(process: int) -> float:
    tasks = Path(f"/proc/{process}/task")
    return sum(int((tasks / task / "schedstat").read_text().split()[0]) for task in os.listdir(tasks)) / 1e9


if __name__ == "__main__":
    main()
