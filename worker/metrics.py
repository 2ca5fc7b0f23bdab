"""Every metric of the worker, declared once. Dashboards and alerts may name only what stands here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from worker.errors import ConfigError, Reason
from worker.types import DeadLettered, Direction, Matched, Outcome

OUTCOMES: Final = ("matched", "unmatched", "dead_lettered")
_SCORES: Final = tuple(step / 20 for step in range(1, 21))
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One worker's metrics in a registry of their own. Thread-safe.

    Args:
        stages: names of the pipeline's stages; every series of theirs exists from the start.
        model_id: of the model that serves.
    """

    def __init__(self, stages: Sequence[str] = (), model_id: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        self.posts = Counter("entityclip_posts", "Records taken from the source.", registry=registry)
        self.outcomes = Counter(
            "entityclip_outcomes", "Posts that reached their outcome.", ["outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "entityclip_dead_letters", "Posts refused, by reason.", ["reason"], registry=registry
        )
        self.matches = Counter(
            "entityclip_matches", "Matches written and acknowledged.", ["direction"], registry=registry
        )
        self.scores = Histogram(
            "entityclip_match_score",
            "Calibrated score of the matches written.",
            buckets=_SCORES,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "entityclip_stage_seconds",
            "Seconds a stage took for one batch, retries included.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_busy = Counter(
            "entityclip_stage_busy_seconds",
            "Seconds a stage's threads worked; its rate per thread is the busy ratio.",
            ["stage"],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "entityclip_stage_queue_posts", "Posts that wait for a stage.", ["stage"], registry=registry
        )
        self.batch_size = Histogram(
            "entityclip_stage_batch_posts",
            "Posts in one batch of a stage.",
            ["stage"],
            buckets=_SIZES,
            registry=registry,
        )
        self.retries = Counter(
            "entityclip_stage_retries",
            "Calls repeated because a dependency was away.",
            ["stage"],
            registry=registry,
        )
        self.commits = Counter("entityclip_commits", "Commits the source has recorded.", registry=registry)
        self.oldest_uncommitted = Gauge(
            "entityclip_oldest_uncommitted_seconds",
            "Age of the record that holds up commits the longest.",
            registry=registry,
        )
        self.paused = Gauge(
            "entityclip_source_paused", "1 while the source is paused by back-pressure.", registry=registry
        )
        self.in_flight_posts = Gauge(
            "entityclip_in_flight_posts", "Posts admitted that have no outcome yet.", registry=registry
        )
        self.in_flight_bytes = Gauge(
            "entityclip_in_flight_bytes", "Bytes charged for the posts in flight.", registry=registry
        )
        self.model = Gauge(
            "entityclip_model_info",
            "1, labelled with the model that serves.",
            ["model_id"],
            registry=registry,
        )
        self._initialise(stages, model_id)

    def _initialise(self, stages: Sequence[str], model_id: str) -> None:
        for outcome in OUTCOMES:
            self.outcomes.labels(outcome)
        for reason in Reason:
            self.dead_letters.labels(reason.value)
        for direction in Direction:
            self.matches.labels(direction.value)
        for stage in stages:
            for metric in (
                self.stage_seconds,
                self.stage_busy,
                self.queue_depth,
                self.batch_size,
                self.retries,
            ):
                metric.labels(stage)
        self.model.labels(model_id).set(1)

    def count(self, outcome: Outcome) -> None:
        """Count an outcome that is acknowledged, and what it holds."""
        if isinstance(outcome, DeadLettered):
            self.outcomes.labels("dead_lettered").inc()
            self.dead_letters.labels(outcome.reason.value).inc()
        elif isinstance(outcome, Matched):
            self.outcomes.labels("matched").inc()
            for match in outcome.matches:
                self.matches.labels(match.direction.value).inc()
                self.scores.observe(match.score)
        else:
            self.outcomes.labels("unmatched").inc()

    @contextmanager
    def serving(self, address: str, port: int) -> Iterator[None]:
        """Serve them over HTTP for as long as the context is open.

        Raises:
            ConfigError: the address cannot be bound.
        """
        try:
            server, thread = start_http_server(port, addr=address, registry=self.registry)
        except OSError as error:
            raise ConfigError(f"metrics cannot be served on {address}:{port}: {error}") from error
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
