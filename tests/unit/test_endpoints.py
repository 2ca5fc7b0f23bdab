"""What is named as source and sink is checked against each other before anything is connected."""

from __future__ import annotations

import pytest

from worker.config import load_config
from worker.endpoints import open_source
from worker.errors import ConfigError
from worker.observe.metrics import Metrics


@pytest.mark.parametrize("own", ["sink", "dead_letters", "outcomes"])
def test_a_topic_that_the_run_itself_writes_is_no_source(own: str) -> None:
    """It would read what it writes and never end."""
    places = {"source": "kafka:news.posts", "sink": "kafka:news.matches"} | {own: "kafka:news.posts"}
    config = load_config(None, places | {"kafka.bootstrap_servers": "127.0.0.1:1"}, environ={})
    with pytest.raises(ConfigError, match=r"^the source kafka:news\.posts is where this run writes"):
        open_source(config, Metrics())
