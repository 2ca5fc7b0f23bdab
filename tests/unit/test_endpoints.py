"""What is named as source and sink is checked against each other before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config import load_config
from worker.endpoints import check_places, open_source
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
    ("places", "message"),
    [
        ({"outcomes": "kafka:news.matches"}, "the sink and the outcome sink are both kafka:news.matches"),
        ({"dead_letters": "kafka:news.matches"}, "the sink and the dead-letter sink are both"),
        (
            {"dead_letters": "file:out.jsonl", "outcomes": "file:./x/../out.jsonl"},
            "the dead-letter sink and the outcome sink are both",
        ),
        ({"source": "file:posts.jsonl", "until": "2026-01-31T00:00:00Z"}, "are for a topic"),
        ({"source": "file:posts.jsonl", "start_at": "2026-01-31T00:00:00Z"}, "are for a topic"),
        (
            {"start_at": "2026-02-01T00:00:00Z", "until": "2026-01-31T00:00:00Z"},
            "--until 2026-01-31T00:00:00+00:00 is not after --from 2026-02-01T00:00:00+00:00",
        ),
        ({"source": "news.posts"}, "is not of a known kind"),
    ],
)
def test_places_that_do_not_go_together_are_refused(places: dict[str, str], message: str) -> None:
    named = {"source": "kafka:news.posts", "sink": "kafka:news.matches"} | places
    with pytest.raises(ConfigError) as refused:
        check_places(load_config(None, named, environ={}))
    assert message in str(refused.value)


def test_places_apart_and_times_in_order_are_taken() -> None:
    named = {"source": "kafka:news.posts", "sink": "kafka:news.matches", "outcomes": "kafka:news.outcomes"}
    times = {"start_at": "2026-01-31T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
    check_places(load_config(None, named | times, environ={}))


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
