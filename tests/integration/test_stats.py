"""Statistics of a real embedded store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from worker.cli.main import run_command
from worker.errors import ExitCode
from worker.index import Point, VectorIndex
from worker.stats.collect import Count, ModelCollection, Statistics, collect
from worker.stats.output import print_stats, stats_json
from worker.store.client import Store, open_store

NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
SERVED, OTHER = "0123456789ab", "ba9876543210"


def point(number: int, kind: str, at: datetime | None, **fields: object) -> Point:
    vector = np.array([1.0, number], np.float32)
    payload = {"post_id": f"post-{number}", "kind": kind, "published_at": at, **fields}
    return Point(f"00000000-0000-0000-0000-{number:012d}", {kind: vector}, payload)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("stats") / "store")) as opened:
        index = VectorIndex(opened, "entityclip", SERVED, 2)
        index.open_or_create()
        index.upsert(
            [
                point(1, "image", None, source="desk", entities=["A", "B"], explanation_status="none"),
                point(2, "text", NOW, source="desk", entities=["B"], explanation_status="given", lang="en"),
                point(3, "text", MIDNIGHT, source="wire", explanation_status="given"),
                point(4, "text", MIDNIGHT - timedelta(microseconds=1), source="wire"),
                point(5, "text", MIDNIGHT - timedelta(days=40)),
                point(6, "text", MIDNIGHT + timedelta(days=1)),
            ]
        )
        for other in (OTHER, "control"):
            VectorIndex(opened, "entityclip", other, 2).create_collection()
        yield opened


@pytest.fixture(scope="module")
def found(store: Store) -> Statistics:
    return collect(store, "entityclip", days=3, now=NOW)


def test_values_are_counted_commonest_first(found: Statistics) -> None:
    assert found.points == 6
    assert found.kinds == (Count("text", 5), Count("image", 1))
    assert found.sources == (Count("desk", 2), Count("wire", 2))
    assert found.langs == (Count("en", 1),)
    assert found.explanation_statuses == (Count("given", 2), Count("none", 1))
    assert found.entities == (Count("B", 2), Count("A", 1))


def test_each_point_counts_on_one_day_at_most(found: Statistics) -> None:
    days = found.published
    assert days.days == (Count("2026-03-10", 2), Count("2026-03-09", 1), Count("2026-03-08", 0))
    assert (days.earlier, days.later, days.undated) == (1, 1, 1)


def test_other_models_of_the_alias_stand_beside_the_served_one(found: Statistics) -> None:
    assert found.models == (
        ModelCollection(SERVED, 6, found.models[0].indexed_vectors, is_served=True),
        ModelCollection(OTHER, 0, 0, is_served=False),
    )


def test_json_holds_what_the_tables_show(found: Statistics) -> None:
    document = json.loads(stats_json(found))
    assert (document["points"], document["entities"][0]) == (6, {"value": "B", "points": 2})


def test_tables_leave_out_what_there_is_none_of(found: Statistics) -> None:
    file = io.StringIO()
    print_stats(found, file=file)
    shown = file.getvalue()
    assert "6 points in entityclip-0123456789ab" in shown
    assert "83.3 %" in shown
    assert "earlier" in shown


def test_the_command_reads_a_store_that_is_in_use(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["stats", "--store", store.target, "--format", "json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["published"]["undated"] == 1


def test_a_missing_store_is_named_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["stats", "--store", str(tmp_path / "none")]) == ExitCode.CONFIG
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_an_alias_that_nobody_took_is_named(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTITYCLIP_ALIAS", "nobody")
    assert run_command(["stats", "--store", store.target]) == ExitCode.CONFIG
    assert "no alias 'nobody'" in capsys.readouterr().err
