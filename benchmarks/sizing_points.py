"""What a point takes in the real engine: on disk, and in the memory of the process that serves it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.sizing_formula import PointBytes
from worker.bench.search_store import nobody_serves
from worker.index import Point, Search, VectorIndex
from worker.store.client import Store, open_store
from worker.store.files import StoreFiles
from worker.store.upkeep import OPTIMIZE_AFTER

POINTS = OPTIMIZE_AFTER + 1024  # of each lot: enough for search graphs
_QUIET_S = 5.0  # between two looks: graphs are built where nothing was asked for a while
_LOT = 512  # points of one request
_SEARCHES = 64  # of one request


def point_bytes(folder: Path, payloads: Sequence[Mapping[str, object]], dim: int) -> PointBytes:
    """Disk and memory that a point adds to a store: what a second lot of points takes, with search graphs."""
    points = list(_points(payloads, dim))
    first = _add(folder, points[:POINTS], POINTS)
    second = _add(folder, points[POINTS:], 2 * POINTS)
    return PointBytes((second.disk - first.disk) / POINTS, (second.ram - first.ram) / POINTS)


def _add(folder: Path, points: Sequence[Point], total: int) -> PointBytes:
    """Store the points and wait for their graphs; what the whole store takes then."""
    store = open_store(str(folder))
    dim = len(next(iter(points[0].vectors.values())))
    with closing(VectorIndex(store, "entityclip", "sizing", dim)) as index:
        index.open_or_create()
        for start in range(0, len(points), _LOT):
            index.upsert(points[start : start + _LOT])
        _wait_for_graphs(store, index.collection, total)
    ram = _served_bytes(folder, dim)  # by a new process: nothing of what loading took is left
    return PointBytes(_disk_bytes(folder), ram)


def _points(payloads: Sequence[Mapping[str, object]], dim: int) -> Iterator[Point]:
    """Random vectors with payloads of the demo, each point a post of its own."""
    random = np.random.default_rng(0)
    for number in range(2 * POINTS):
        payload = payloads[number % len(payloads)]
        vector = random.standard_normal(dim).astype(np.float32)
        own = {"post_id": f"demo-{number}", "content_hash": uuid.uuid4().hex * 2}
        yield Point(str(uuid.uuid4()), {str(payload["kind"]): vector}, {**payload, **own})


def open_index(folder: Path, model_id: str, dim: int) -> VectorIndex:
    """The index of a store's folder; to be opened."""
    return VectorIndex(open_store(str(folder)), "entityclip", model_id, dim)


def _served_bytes(folder: Path, dim: int) -> int:
    """Resident memory of a new process that serves the store, once searches have gone over it."""
    random = np.random.default_rng(1)
    with closing(open_index(folder, "sizing", dim)) as index:
        index.open_or_create()
        for _ in range(20):
            vectors = random.standard_normal((_SEARCHES, dim)).astype(np.float32)
            index.search([Search(using, vector, 20) for vector in vectors for using in ("image", "text")])
        pid = json.loads(StoreFiles(folder).address.read_bytes())["pid"]
        status = Path(f"/proc/{pid}/status").read_text()
    with nobody_serves(folder):
        pass
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def _wait_for_graphs(store: Store, collection: str, points: int) -> None:
    deadline = time.monotonic() + 600
    while points - (store.client.get_collection(collection).indexed_vectors_count or 0) >= OPTIMIZE_AFTER:
        if time.monotonic() > deadline:
            raise TimeoutError("the store built no search graphs in 600 s")
        time.sleep(_QUIET_S)


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
