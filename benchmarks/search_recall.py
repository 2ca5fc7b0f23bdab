"""Recall and latency of cross-modal search in the embedded store, beside exact search.

    python -m benchmarks.search_recall --points 1000 10000 100000 --data ../shared/data --json recall.json

Half of the points are pictures, half are texts, as vectors of one checkpoint; queries go from either kind to
the other, at the store's default settings. recall@10 is tie-aware: a hit counts if its exact cosine reaches
that of the tenth best. The time filter keeps one point in a hundred. Latency is of one search at a time
through the store's socket. Exits with 1 if recall at the largest size is below `--least`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np

from benchmarks.embedded_store import nobody_serves
from benchmarks.search_vectors import SearchVectors, Vectors, search_vectors
from worker.index import Point, Search, VectorIndex, VectorName, Where
from worker.store.catalog import Catalog
from worker.store.client import open_store
from worker.store.files import StoreFiles
from worker.store.server import OPTIMIZE_AFTER, optimize_when_due

_TOP = 10
_TIE = 1e-5  # the engine sums in another order
_STARTED = datetime(2024, 1, 1, tzinfo=UTC)
_DAYS = 100  # a filter of one day keeps one point in a hundred
_BATCH = 1024
_WAIT_S = 600.0
_POLL_S = 3.0  # longer than the quiet time after which the store builds its graphs
_KIND_NUMBER: dict[VectorName, int] = {"image": 1, "text": 2}
_STALL = re.compile(r"nothing was served for ([0-9.]+) s")


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a store was filled.

    Args:
        indexed: vectors in a search graph.
        left_s: for adding to the graphs what the store would have left to a scan; 0 if nothing was left.
        stalls_s: for how long, each time it built graphs by itself, the store answered nothing.
    """

    points: int
    indexed: int
    load_s: float
    left_s: float
    stalls_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one direction gave.

    Args:
        recall, worst: share of the ten best that were found, 0 to 1: mean, and of the worst query.
        p50_ms, p95_ms: of one search.
    """

    points: int
    direction: str
    one_day: bool
    queries: int
    recall: float
    worst: float
    p50_ms: float
    p95_ms: float


def points(vectors: SearchVectors, count: int) -> Iterator[Point]:
    """Half pictures, half texts, in turn; dates go round a hundred days."""
    for row in range(count // 2):
        yield _point("image", row, vectors.images[row])
        yield _point("text", row, vectors.texts[row])


def _point(kind: VectorName, row: int, vector: Vectors) -> Point:
    payload = {"post_id": f"{kind}-{row}", "kind": kind, "published_at": _dated(row)}
    return Point(str(UUID(int=(_KIND_NUMBER[kind] << 64) + row)), {kind: vector}, payload)


def _dated(row: int) -> datetime:
    return _STARTED + timedelta(days=row % _DAYS)


def fill(folder: Path, vectors: SearchVectors, count: int) -> Loaded:
    """Make a store of `count` points and see that search graphs hold them, if there are enough of them.

    The store builds graphs by itself once 20,000 points lack one; the last few below that number are left to
    a scan in use, and added here, so that what is measured is the graphs alone.
    """
    started = time.monotonic()
    with closing(_open(folder, vectors)) as index:
        made = points(vectors, count)
        while batch := list(islice(made, _BATCH)):
            index.upsert(batch)
        load_s = time.monotonic() - started
        _wait(folder, index, count)
    left_s = _build_the_rest(folder) if count >= OPTIMIZE_AFTER else 0.0
    stalls = tuple(float(found) for found in _STALL.findall(StoreFiles(folder).log.read_text()))
    with closing(_open(folder, vectors)) as index:
        return Loaded(count, _indexed(folder, index), load_s, left_s, stalls)


def _open(folder: Path, vectors: SearchVectors) -> VectorIndex:
    index = VectorIndex(open_store(str(folder)), "benchmark", "model", vectors.images.shape[1])
    index.open_or_create()
    return index


def _indexed(folder: Path, index: VectorIndex) -> int:
    with open_store(str(folder)) as store:
        return store.call(store.client.get_collection, index.collection).indexed_vectors_count or 0


def _wait(folder: Path, index: VectorIndex, count: int) -> None:
    """Leave the store in peace until it has built its graphs."""
    until = time.monotonic() + _WAIT_S
    while count - _indexed(folder, index) >= OPTIMIZE_AFTER:
        if time.monotonic() > until:
            raise TimeoutError(f"no search graphs after {_WAIT_S:.0f} s")
        time.sleep(_POLL_S)


def _build_the_rest(folder: Path) -> float:
    """Build graphs over everything, with the store's process gone; seconds."""
    with nobody_serves(folder):
        catalog = Catalog.open(StoreFiles(folder))
        started = time.monotonic()
        built = [optimize_when_due(collection, due=1) for collection in catalog]
        took_s = time.monotonic() - started
        catalog.close()
    return took_s if any(built) else 0.0


def ask(folder: Path, vectors: SearchVectors, count: int) -> list[Answer]:
    """Every direction, with and without the time filter."""
    with closing(_open(folder, vectors)) as index:
        return [
            _answer(index, vectors, count, direction, one_day)
            for one_day in (False, True)
            for direction in vectors.queries
        ]


def _answer(index: VectorIndex, vectors: SearchVectors, count: int, direction: str, one_day: bool) -> Answer:
    using: VectorName = "image" if direction.endswith("image") else "text"
    stored = (vectors.images if using == "image" else vectors.texts)[: count // 2]
    recalls, times_ms = [], []
    for number, query in enumerate(vectors.queries[direction]):
        day = number % _DAYS if one_day else None
        where = Where() if day is None else Where(published_from=_dated(day), published_to=_dated(day))
        search = Search(using, query, limit=_TOP, where=where, fields=("post_id",))
        started = time.perf_counter()
        hits = index.search([search])[0]
        times_ms.append(1000 * (time.perf_counter() - started))
        rows = [UUID(hit.id).int & 0xFFFFFFFF for hit in hits]
        allowed = np.arange(len(stored))[slice(None) if day is None else slice(day, None, _DAYS)]
        recalls.append(recall(stored @ query, allowed, rows))
    p50, p95 = np.percentile(times_ms, (50, 95))
    return Answer(
        count, direction, one_day, len(recalls), float(np.mean(recalls)), min(recalls), float(p50), float(p95)
    )


def recall(cosines: Vectors, allowed: np.ndarray, found: list[int]) -> float:
    """Tie-aware recall@10: of the ten best, how many were found, another one of the same cosine counting too.

    Args:
        cosines: [N] exact, of the query and every stored vector.
        allowed: rows that pass the filter.
        found: rows of the hits, at most ten.
    """
    wanted = min(_TOP, len(allowed))
    if not wanted:
        return 1.0
    least = np.partition(cosines[allowed], -wanted)[-wanted] - _TIE
    passing = set(allowed.tolist())
    return sum(row in passing and bool(cosines[row] >= least) for row in set(found)) / wanted


def table(loaded: list[Loaded], answers: list[Answer]) -> str:
    """What was measured, as Markdown."""
    lines = ["| points | in a graph | loaded in s | unanswered while building, s | added at the end in s |"]
    lines.append("| --: | --: | --: | --: | --: |")
    for row in loaded:
        stalls = ", ".join(f"{stall:.1f}" for stall in row.stalls_s) or "–"
        lines.append(f"| {row.points:,} | {row.indexed:,} | {row.load_s:.1f} | {stalls} | {row.left_s:.1f} |")
    lines += ["", "| points | direction | filter | recall@10 | worst query | p50 ms | p95 ms |"]
    lines.append("| --: | --- | --- | --: | --: | --: | --: |")
    for answer in answers:
        which = f"1 in {_DAYS}, by time" if answer.one_day else "none"
        lines.append(
            f"| {answer.points:,} | {answer.direction} | {which} | {answer.recall:.4f} | {answer.worst:.1f} "
            f"| {answer.p50_ms:.1f} | {answer.p95_ms:.1f} |"
        )
    return "\n".join(lines)


def run(vectors: SearchVectors, sizes: list[int]) -> tuple[list[Loaded], list[Answer]]:
    """Fill and ask a store of each size.

    Raises:
        ValueError: more points than vectors, or search graphs that leave points out.
    """
    loaded: list[Loaded] = []
    answers: list[Answer] = []
    for count in sizes:
        if count // 2 > min(len(vectors.images), len(vectors.texts)):
            raise ValueError(f"{count} points asked for of {len(vectors.images)} + {len(vectors.texts)}")
        with TemporaryDirectory(prefix="entityclip-recall-") as folder:
            loaded.append(fill(Path(folder), vectors, count))
            # the engine scans a segment below its own indexing threshold, which is exact and quick
            if count - loaded[-1].indexed >= OPTIMIZE_AFTER:
                raise ValueError(f"search graphs hold {loaded[-1].indexed} of {count} vectors")
            answers += ask(Path(folder), vectors, count)
            with nobody_serves(Path(folder)):
                pass
        print(table(loaded[-1:], [answer for answer in answers if answer.points == count]), flush=True)
    return loaded, answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=500, help="of each direction")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds load/texts.jsonl.gz")
    parser.add_argument("--least", type=float, default=0.98, help="recall@10 at the largest size")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    vectors = search_vectors(chosen.model, chosen.data, max(chosen.points) // 2, chosen.queries)
    loaded, answers = run(vectors, chosen.points)
    print(f"\n{table(loaded, answers)}")
    if chosen.json is not None:
        found = {"loaded": [asdict(row) for row in loaded], "answers": [asdict(row) for row in answers]}
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    low = [row for row in answers if row.points == max(chosen.points) and row.recall < chosen.least]
    if low:
        sys.exit(f"recall@10 below {chosen.least}: " + ", ".join(f"{row.direction}" for row in low))


if __name__ == "__main__":
    main()
