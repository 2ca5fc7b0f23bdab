"""What is named as source and sink is checked against each other before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config import load_config
from worker.endpoints import open_source
from worker.errors import ConfigError
from worker.observe.metrics import Metrics
from worker.transport.base import Partition


@pytest.mark.parametrize("own", ["sink", "dead_letters", "outcomes"])
def test_a_topic_that_the_run_itself_writes_is_no_source(own: str) -> None:
    """It would read what it writes and never end."""
    places = {"source": "kafka:news.posts", "sink": "kafka:news.matches"} | {own: "kafka:news.posts"}
    config = load_config(None, places | {"kafka.bootstrap_servers": "127.0.0.1:1"}, environ={})
    with pytest.raises(ConfigError, match=r"^the source kafka:news\.posts is where this run writes"):
        open_source(config, Metrics())


@pytest.mark.parametrize(
    ("source", "sink"), [("file:posts.jsonl", "file:."), ("file:.", "kafka:news.matches")]
)
def test_a_folder_without_a_name_still_has_a_place_beside_it(
    source: str, sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "posts.jsonl").write_text('{"id": "a", "text": "b"}\n')
    monkeypatch.chdir(tmp_path)
    opened = open_source(load_config(None, {"source": source, "sink": sink}, environ={}), Metrics())
    opened.poll(1.0)
    opened.mark({Partition(source.removeprefix("file:"), 0): "a note"})
    assert list(tmp_path.parent.glob(f"{tmp_path.name}.offsets-*.json"))
