"""Workers die at random moments, join and leave: no post without an outcome, no pair lost, none blamed."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from model.checkpoint import load
from tests.fault.cluster import DEAD, Cluster, Worker, repeats
from tests.fault.planted import planted_pairs
from tests.fault.streams import pictures, texts, with_pairs
from tests.fault.test_topic_to_topic import _each_post_has_one_outcome

KILLS, HITS = 30, 25
POSTS, PICTURES, PAIRS, WORKERS = 12_000, 400, 200, 3


@pytest.mark.chaos
def test_thirty_kills(real_data: Path, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    rng = random.Random(seed)
    pairs = planted_pairs(PAIRS)
    noise = texts(real_data, POSTS - PICTURES - 2 * PAIRS) + pictures(real_data, PICTURES)
    model = load("tiny")
    with Cluster(tmp_path, media_root=real_data, settings="limits.in_flight_posts = 64") as cluster:
        workers = [cluster.start_worker() for _ in range(WORKERS)]
        for worker in workers:
            worker.wait_ready()
        stream = with_pairs(noise, pairs, seed)
        hits = 0
        for number in range(KILLS):
            cluster.produce(stream[number::KILLS], spread=True)
            time.sleep(rng.uniform(0.2, 3.0))
            victim = rng.randrange(WORKERS)
            hits += _in_flight(workers[victim]) > 0
            workers[victim].kill()
            if number % 6 == 5:  # one leaves in order, and another joins
                leaving = (victim + 1) % WORKERS
                assert workers[leaving].terminate() == 0
                workers[leaving] = cluster.start_worker()
            workers[victim] = cluster.start_worker()
            workers[victim].wait_ready()
        outcomes = cluster.wait_for_outcomes(POSTS, timeout_s=1200)
        matches = cluster.match_ids()
        points = list(cluster.points(model.model_id, model.config.architecture.embed_dim))
        replays = repeats(outcomes)
        print(f"kills {KILLS}, of them {hits} with records in flight; outcomes repeated {replays}; ", end="")
        print(f"matches {matches.total()}, repeated {matches.total() - len(matches)}; ", end="")
        wanted = {pair.match_id for pair in pairs}
        print(f"planted pairs found {len(wanted & set(matches))} of {PAIRS}; points {len(points)}; ", end="")
        letters = [dict(record.headers)["reason"] for record in cluster.records(DEAD)]
        print(f"dead letters {dict(Counter(letters))}")
        assert hits >= HITS
        assert replays > 0
        assert wanted <= set(matches)
        assert letters == []
        _each_post_has_one_outcome(outcomes)
        assert len({point["id"] for point in points}) == len(points)
        places = Counter(
            (point["post_id"], point["kind"], point.get("image_id", point.get("window"))) for point in points
        )
        assert set(places.values()) == {1}


def _in_flight(worker: Worker) -> float:
    """Posts that it holds and has not committed; uncommitted ones at the least."""
    metrics = worker.metrics()
    return metrics.get("entityclip_in_flight_posts", 0.0)
