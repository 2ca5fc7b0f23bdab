"""What deploy/README.md promises after a loss: a replay from Kafka, a copied store, and both together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoint import load
from tests.fault.cluster import Cluster
from tests.fault.planted import Pair, planted_pairs
from tests.kafka.broker import Broker
from tests.redis_server import need_redis_server
from worker.bench.search_store import nobody_serves
from worker.index import Point, VectorIndex
from worker.store.client import open_store

PAIRS = 6
RECOVERY = "kafka:recovery.outcomes"
_REPLAY_S = 120.0
pytestmark = pytest.mark.slow  # two workers and two replays, one after the other: a minute and a half


@dataclass(frozen=True, slots=True)
class Stored:
    """A point without the time at which it was stored, which a replay changes."""

    payload: Mapping[str, object]
    vectors: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, point: Point) -> Stored:
        payload = {name: value for name, value in point.payload.items() if name != "indexed_at"}
        return cls(payload, dict(point.vectors))


Points = dict[str, Stored]


@dataclass(frozen=True, slots=True)
class Story:
    """What happened, in this order.

    Args:
        pairs: whose texts came before the copy, and whose pictures after it was put back.
        lost: points of the store before it was deleted: what must be there again.
        replayed: points of a new store after a replay of the whole topic.
        patched: points of the copy after a replay of what came since.
        matches: how often each match id was written, in the end.
        matches_before: the same before the replays.
        outcomes: places that the worker's own group reported, in the end, and of how many records.
    """

    pairs: list[Pair]
    copied: Points
    lost: Points
    replayed: Points
    patched: Points
    matches: Counter[str]
    matches_before: Counter[str]
    outcomes: list[tuple[int, int]]
    records: int


@pytest.fixture(scope="module")
def story(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """With a broker of its own; the fixture named only says whether there can be one."""
    need_redis_server()
    with Cluster(tmp_path_factory.mktemp("recovery"), llm=False) as cluster:
        yield tell(cluster, planted_pairs(PAIRS, seed=6))


def tell(cluster: Cluster, pairs: list[Pair]) -> Story:
    """Live through it."""
    before = datetime.now(UTC)
    texts: list[Any] = [pair.text for pair in pairs]
    gone = {"id": "gone", "text": "A post that is taken down later on"}
    records = run_worker(cluster, [*texts, gone, {"id": "kept", "text": "Version one"}], 0)
    copy = cluster.folder / "copy"
    copied_at = datetime.now(UTC)
    put_in_place(cluster.store, copy)
    copied = points_of(copy)
    shutil.rmtree(cluster.store)
    put_in_place(copy, cluster.store)
    pictures: list[Any] = [pair.picture for pair in pairs]
    later = [*pictures, (b"gone", None), {"id": "kept", "text": "Version two"}]
    records = run_worker(cluster, later, records)
    lost, matches_before = points_of(cluster.store), cluster.match_ids()
    shutil.rmtree(cluster.store)
    rebuilt = cluster.folder / "rebuilt"
    replay(cluster, rebuilt, "recovery", before)
    replay(cluster, copy, "recovery-since-copy", copied_at)
    return Story(
        pairs=pairs,
        copied=copied,
        lost=lost,
        replayed=points_of(rebuilt),
        patched=points_of(copy),
        matches=cluster.match_ids(),
        matches_before=matches_before,
        outcomes=[(each["partition"], each["offset"]) for each in cluster.outcomes()],
        records=records,
    )


def run_worker(cluster: Cluster, posts: list[Any], earlier: int) -> int:
    """Let a worker handle these posts, then stop it in order; how many records there were up to now."""
    worker = cluster.start_worker()
    worker.wait_ready()
    total = earlier + cluster.produce(posts)
    cluster.wait_for_outcomes(total, timeout_s=90, poll_s=0.2)
    assert worker.terminate() == 0, worker.tail()
    return total


def put_in_place(source: Path, target: Path) -> None:
    """Copy a store that no process serves."""
    with nobody_serves(source):
        shutil.copytree(source, target)


def replay(cluster: Cluster, store: Path, group: str, since: datetime) -> None:
    """The command of deploy/README.md, over the configuration of the first worker."""
    command = [sys.executable, "-m", "worker.cli.main", "run"]
    command += [f"--config={cluster.workers[0].folder / 'worker.toml'}", f"--store={store}"]
    command += [f"--group={group}", f"--from={since.isoformat()}", f"--until={datetime.now(UTC).isoformat()}"]
    command += ["--no-emit", f"--outcomes={RECOVERY}", "--metrics-port=0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_REPLAY_S, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


def points_of(store: Path) -> Points:
    """All points of a store, by id; once nobody serves it any more."""
    checkpoint = load("tiny")
    index = VectorIndex(open_store(str(store)), "entityclip", checkpoint.model_id, 128)
    try:
        index.open_existing()
        return {point.id: Stored.of(point) for point in index.scroll(with_vectors=True)}
    finally:
        index.close()


def assert_same(found: Points, wanted: Points) -> None:
    """The same points; vectors up to what the other posts of a batch change in their rounding."""
    assert {name: point.payload for name, point in found.items()} == {
        name: point.payload for name, point in wanted.items()
    }
    for name, point in wanted.items():
        for kind, vector in point.vectors.items():
            assert float(found[name].vectors[kind] @ vector) > 0.999, name


def test_a_store_that_was_copied_while_nobody_served_it_loses_nothing(story: Story) -> None:
    assert set(story.matches_before) == {pair.match_id for pair in story.pairs}


def test_a_restart_on_the_copy_repeats_nothing(story: Story) -> None:
    assert set(story.matches_before.values()) == {1}
    assert len(story.outcomes) == len(set(story.outcomes)) == story.records


def test_a_replay_of_the_topic_rebuilds_the_points(story: Story) -> None:
    assert_same(story.replayed, story.lost)


def test_a_replay_of_what_came_since_completes_an_older_copy(story: Story) -> None:
    assert story.copied.keys() != story.lost.keys()
    assert_same(story.patched, story.lost)


def test_a_replay_takes_down_what_was_taken_down_and_keeps_the_newest_version(story: Story) -> None:
    texts = {point.payload["post_id"]: point.payload["text"] for point in story.replayed.values()}
    assert "gone" not in texts
    assert texts["kept"] == "Version two"


def test_a_replay_writes_no_match(story: Story) -> None:
    assert story.matches == story.matches_before
