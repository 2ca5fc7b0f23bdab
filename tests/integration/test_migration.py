"""`entityclip migrate` over a real worker, the embedded store and two models with random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration import Analyst, Stage, ids, make_stage, post
from worker.cli.main import run_command
from worker.index import served_model
from worker.migrate.backfill import difference
from worker.store.client import open_store

BEFORE, DURING = 24, 8


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("migration")
    with open_store(str(folder / "store")):  # its process stays, in place of one a command
        yield make_stage(folder)


def test_the_model_changes_and_back_while_posts_come_in_and_queries_go_on(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    analyst = Analyst(stage)
    with stage.worker(dual=False):
        stage.feed([post(number) for number in range(BEFORE)])
    with stage.worker(), analyst.asking():
        stage.feed([post(number) for number in range(BEFORE, BEFORE + DURING)])
        stage.feed([{"id": "post1", "gone": True}, post(2, text="Another text of post 2.", images=2)])

        assert run_command(["migrate", "cutover", *stage.options("new")]) == 1
        assert "are missing" in capsys.readouterr().err
        assert run_command(["migrate", "plan", "--json", *stage.options("new")]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["source"] == {"image": BEFORE + DURING, "text": BEFORE + DURING - 1}
        assert plan["missing"] == 2 * (BEFORE - 2)
        assert plan["workers"][0]["models"] == [stage.old_id, stage.new_id]

        assert run_command(["migrate", "backfill", "--batch", "16", *stage.options("new")]) == 0
        assert f"{2 * (BEFORE - 2)} points inserted" in capsys.readouterr().out
        assert run_command(["migrate", "compare", "--json", "--queries", "10", *stage.options("new")]) == 0
        asked = json.loads(capsys.readouterr().out)["questions"]
        assert [item["questions"] for item in asked] == [10, 10]

        for number, (command, model) in enumerate(
            [("cutover", "new"), ("rollback", "old"), ("cutover", "new")], start=100
        ):
            assert run_command(["migrate", command, *stage.options(model)]) == 0, capsys.readouterr().err
            stage.feed([post(number)])
        assert run_command(["migrate", "cutover", *stage.options("new")]) == 0
        assert "already" in capsys.readouterr().out

    with open_store(str(stage.folder / "store"), create=False) as store:
        old, new = stage.collection(store, stage.old_id), stage.collection(store, stage.new_id)
        assert served_model(store, "entityclip") == stage.new_id
        assert ids(old) == ids(new)
        differences = [difference(rows, new) for rows in old.rows()]
        assert not any(found.missing or found.outdated for found in differences)
    assert first_model(stage, "post101") == stage.old_id
    assert first_model(stage, "post102") == stage.new_id
    assert analyst.errors == []
    assert analyst.mixed == 0
    assert set(analyst.answers) == {stage.old_id, stage.new_id}


def first_model(stage: Stage, post_id: str) -> object:
    """The model of the first match that a post is in, which the post itself asked for."""
    return next(
        match["model_id"]
        for match in stage.matches()
        if post_id in (match["text_post_id"], match["image_post_id"])
    )


def test_no_cutover_while_a_worker_writes_one_collection_only(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The alias names the new model by now: the way back is refused for the same reason."""
    assert run_command(["migrate", "rollback", *stage.options("old")]) == 1
    assert "no worker is alive" in capsys.readouterr().err
    assert run_command(["migrate", "rollback", "--force", *stage.options("old")]) == 0
    with stage.worker(dual=False):
        capsys.readouterr()
        assert run_command(["migrate", "cutover", *stage.options("new")]) == 1
        assert f"writes {stage.old_id} only" in capsys.readouterr().err


def test_without_a_store_there_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["migrate", "plan", "--to", "tiny", "--store", str(tmp_path / "none")]) == 78
    assert "there is no store in" in capsys.readouterr().err
