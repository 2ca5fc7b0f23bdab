"""Ten thousand posts from topic to topic over three workers: counts agree, every pair comes out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from model.checkpoint import load
from tests.fault.cluster import DEAD, MATCHES, Cluster, Worker, repeats, until
from tests.fault.planted import planted_pairs
from tests.fault.streams import pictures, texts, with_pairs

POSTS, PICTURES, PAIRS, WORKERS = 10_000, 800, 200, 3


@pytest.mark.slow
def test_ten_thousand_posts_over_three_workers(real_data: Path, tmp_path: Path) -> None:
    pairs = planted_pairs(PAIRS)
    noise = texts(real_data, POSTS - PICTURES - 2 * PAIRS) + pictures(real_data, PICTURES)
    stream = with_pairs(noise, pairs)
    assert len(stream) == POSTS
    model = load("tiny")
    with Cluster(tmp_path, media_root=real_data) as cluster:
        workers = [cluster.start_worker() for _ in range(WORKERS)]
        for worker in workers:
            worker.wait_ready()
        cluster.produce(stream, spread=True)
        outcomes = cluster.wait_for_outcomes(POSTS, timeout_s=1200)
        until(lambda: not sum_of(workers, "entityclip_in_flight_posts"), 30, "never idle")
        matches = cluster.match_ids()
        points = list(cluster.points(model.model_id, model.config.architecture.embed_dim))

        _each_post_has_one_outcome(outcomes)
        kinds = Counter(outcome["outcome"] for outcome in outcomes)
        print(f"outcomes {dict(kinds)}, repeated {repeats(outcomes)}; matches {matches.total()}, ", end="")
        print(f"repeated {matches.total() - len(matches)}; points {len(points)}")
        wanted = {pair.match_id for pair in pairs}
        print(f"planted pairs found {len(wanted & set(matches))} of {PAIRS}, ", end="")
        print(f"repeated {sum(matches[id_] - 1 for id_ in wanted)}")
        assert wanted <= set(matches)

        # metrics, Kafka and the store tell the same story
        assert sum_of(workers, "entityclip_outcomes_total") == len(outcomes)
        assert sum_of(workers, "entityclip_matches_total") == matches.total() == len(cluster.records(MATCHES))
        assert sum_of(workers, "entityclip_dead_letters_total") == len(cluster.records(DEAD))
        assert len(points) == sum(_newest(outcomes).values())

        taken = pairs[0].picture["id"]
        assert any(point["post_id"] == taken for point in points)
        cluster.produce([(taken.encode(), None)])
        cluster.wait_for_outcomes(POSTS + 1, timeout_s=60)
        left = cluster.points(model.model_id, model.config.architecture.embed_dim)
        assert [point for point in left if point["post_id"] == taken] == []


def sum_of(workers: list[Worker], name: str) -> float:
    """A counter over all workers."""
    return sum(worker.metrics().get(name, 0.0) for worker in workers)


def _each_post_has_one_outcome(outcomes: list[dict[str, object]]) -> None:
    kinds: dict[tuple[object, object], set[object]] = {}
    for outcome in outcomes:
        kinds.setdefault((outcome["partition"], outcome["offset"]), set()).add(
            json.dumps([outcome["outcome"] == "dead_lettered", outcome.get("post_id"), outcome["points"]])
        )
    assert {len(each) for each in kinds.values()} == {1}


def _newest(outcomes: list[dict[str, object]]) -> dict[object, int]:
    """Points of each post by its last outcome."""
    return {outcome["post_id"]: int(str(outcome["points"])) for outcome in outcomes if "post_id" in outcome}
