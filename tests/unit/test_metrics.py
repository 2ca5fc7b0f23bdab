"""The metrics: every series is there from the start, and they can be fetched."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from worker.errors import ConfigError, Reason
from worker.metrics import OUTCOMES, Metrics
from worker.stages.chain import STAGES


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_label_value_is_there_from_the_start() -> None:
    registry = Metrics(STAGES).registry
    for reason in Reason:
        assert registry.get_sample_value("entityclip_dead_letters_total", {"reason": reason.value}) == 0
    for outcome in OUTCOMES:
        assert registry.get_sample_value("entityclip_outcomes_total", {"outcome": outcome}) == 0
    for stage in STAGES:
        assert registry.get_sample_value("entityclip_stage_seconds_count", {"stage": stage}) == 0


def test_metrics_are_served_and_the_port_is_free_again() -> None:
    metrics, port = Metrics(STAGES), free_port()
    metrics.posts.inc(3)
    for _ in range(2):
        with (
            metrics.serving("127.0.0.1", port),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
        ):
            assert b"entityclip_posts_total 3.0" in answer.read()


def test_port_in_use_is_a_config_error() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = int(holder.getsockname()[1])
        with pytest.raises(ConfigError, match=f"{port}"), Metrics().serving("127.0.0.1", port):
            pass
