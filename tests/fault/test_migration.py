"""A change of the model under load, in full size: killed half-way, resumed, switched three times.

Run by hand with `-m chaos`; a few minutes. The small version is in `tests/integration/test_migration.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.migration import Analyst, Stage, ids, make_stage, post, until
from worker.migrate.backfill import difference
from worker.store.client import Store, open_store

pytestmark = pytest.mark.chaos
REPOSITORY = Path(__file__).parents[2]
BEFORE = int(os.environ.get("ENTITYCLIP_TEST_MIGRATION_POSTS", "5000"))
DURING = BEFORE // 5
AFTER = 20


def migrate(stage: Stage, command: str, model: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker.cli.main", "migrate", command, *stage.options(model)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, f"{out}\n{err}"
    print(out.strip())
    return out


def test_a_model_changes_under_load(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    analyst = Analyst(stage)
    with open_store(str(tmp_path / "store")) as store:
        with stage.worker(dual=False):
            stage.feed([post(number) for number in range(BEFORE)], timeout_s=900)
        with stage.worker(), analyst.asking():
            load = threading.Thread(target=feed_slowly, args=(stage,))
            load.start()
            kill_half_way(stage, store)
            finish(migrate(stage, "backfill", "new"))
            finish(migrate(stage, "compare", "new"))
            for command, model in (("cutover", "new"), ("rollback", "old"), ("cutover", "new")):
                finish(migrate(stage, command, model))
            load.join(900)
            assert not load.is_alive()
            stage.feed([post(BEFORE + DURING + number) for number in range(AFTER)])
        old, new = stage.collection(store, stage.old_id), stage.collection(store, stage.new_id)
        held, other = ids(old), ids(new)
        gone = DURING // 20
        print(f"{len(held)} and {len(other)} points; {len(analyst.answers)} queries, {analyst.errors=}")
        assert held == other
        assert len(held) == 2 * (BEFORE + DURING + AFTER - gone)
        assert not any(
            found.missing or found.outdated for found in (difference(rows, new) for rows in old.rows())
        )
    assert analyst.errors == []
    assert analyst.mixed == 0
    assert set(analyst.answers) == {stage.old_id, stage.new_id}
    assert {match["model_id"] for match in stage.matches()} == {stage.old_id, stage.new_id}


def feed_slowly(stage: Stage) -> None:
    """New posts, edits of old ones and take-downs, a few at once."""
    for start in range(0, DURING, 20):
        numbers = range(BEFORE + start, BEFORE + start + 20)
        edited = post(start, text=f"Post {start} says something else.")
        stage.feed([*map(post, numbers), edited, {"id": f"post{start + 1}", "gone": True}], timeout_s=900)


def kill_half_way(stage: Stage, store: Store) -> None:
    """End a backfill with SIGKILL once it has inserted a good part."""
    target = stage.collection(store, stage.new_id)
    process = migrate(stage, "backfill", "new")
    until(lambda: process.poll() is not None or sum(target.counts().values()) > BEFORE, timeout_s=900)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    print(f"killed at {sum(target.counts().values())} points")
