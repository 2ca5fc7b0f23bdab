"""The examples of worker/store/README.md, run as they stand there, and its table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import worker.store
from tests.stored_posts import Stored, fill
from worker.index import PAYLOAD_INDEXES

README = (Path(str(worker.store.__file__)).parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the examples left behind, run one after the other beside a store of the packaged model."""
    from model.checkpoint import packaged

    folder = tmp_path_factory.mktemp("readme")
    posts = [
        Stored("post-1", "Saint Lucia", seed=1, published_at=NOW, fields={"entities": ["Saint Lucia"]}),
        Stored(
            "post-2", "Chad", seed=2, published_at=NOW - timedelta(days=30), fields={"entities": ["Chad"]}
        ),
    ]
    fill(folder, packaged("tiny"), posts)
    (folder / "store").rename(folder / "entityclip-store")
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "worker/store/README.md", "exec"), names)
        yield names
        names["store"].close()


def test_the_first_example_finds_pictures_of_the_last_week(ran: dict[str, Any]) -> None:
    assert [hit.payload["post_id"] for hit in ran["pictures"]] == ["post-1"]


def test_the_second_example_finds_every_point_of_a_post(ran: dict[str, Any]) -> None:
    assert {point.payload["kind"] for point in ran["points"]} == {"image", "text"}


def test_the_third_example_finds_texts_of_other_posts(ran: dict[str, Any]) -> None:
    assert [hit.payload["text"] for hit in ran["texts"]] == ["Chad"]


def test_the_table_names_every_index_with_its_type() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (\w+) \|", README, re.MULTILINE)
    listed = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: str(schema.value) for name, schema in PAYLOAD_INDEXES.items()}
