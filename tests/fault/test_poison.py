"""A record that kills the process, and a flood of bad ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fault.cluster import DEAD, Cluster
from tests.fault.deadly_worker import KILLER, RAISER
from tests.fault.planted import planted_pairs
from worker.errors import ExitCode

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("redis", [True, False], ids=["with Redis", "without Redis"])
@pytest.mark.parametrize("poison", [KILLER, RAISER])
def test_a_record_that_ends_the_process(poison: str, redis: bool, tmp_path: Path) -> None:
    """This worker's encoder kills the process at one text, and its windows raise at another."""
    pairs = planted_pairs(10)
    posts = [post for pair in pairs for post in (pair.text, pair.picture)]
    posts.insert(7, {"id": "killer", "text": poison})
    with Cluster(tmp_path, llm=False, redis=redis) as cluster:
        cluster.produce(posts)
        deaths = 0
        worker = cluster.start_worker(module="tests.fault.deadly_worker")
        deadline = time.monotonic() + 300
        while len({(each["partition"], each["offset"]) for each in cluster.outcomes()}) < len(posts):
            assert time.monotonic() < deadline
            if worker.has_ended():
                deaths += 1
                worker = cluster.start_worker(module="tests.fault.deadly_worker")
            time.sleep(0.2)
        letters = cluster.records(DEAD)
        print(f"deaths {deaths}; dead letters {[dict(letter.headers)['reason'] for letter in letters]}")
        assert [dict(letter.headers)["reason"] for letter in letters] == [b"killed_worker"]
        assert dict(letters[0].headers)["attempts"] == b"2"
        assert deaths == 3  # once in company, where nobody is charged, and twice alone
        assert {pair.match_id for pair in pairs} == set(cluster.match_ids())


def test_a_flood_of_bad_posts_stops_the_worker_uncommitted(tmp_path: Path) -> None:
    pairs = planted_pairs(5)
    with Cluster(tmp_path, llm=False, settings="dead_letter_limits.max_run = 50") as cluster:
        worker = cluster.start_worker()
        worker.wait_ready()
        cluster.produce([post for pair in pairs for post in (pair.text, pair.picture)])
        cluster.wait_for_outcomes(10, timeout_s=60)
        time.sleep(2)  # a commit interval
        before = cluster.committed()
        cluster.produce([(f"bad{number}".encode(), b"not json") for number in range(1000)])
        status = worker.expect_end(60)
        after = cluster.committed()
        print(f"exit status {status}: {worker.tail().splitlines()[-1]}")
        assert status == ExitCode.INTERNAL
        assert "51 posts in a row were refused" in worker.tail().splitlines()[-1]
        assert after == before
        assert sum(before.values()) == 10

        # … and with the flag it goes on
        worker = cluster.start_worker("dead_letter_limits.ignore = true")
        cluster.wait_for_outcomes(1010, timeout_s=60)
        assert worker.terminate() == 0
        assert sum(cluster.committed().values()) == 1010
