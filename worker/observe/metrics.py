"""Every metric of the worker, declared once. Dashboards and alerts may name only what stands here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.errors import Reason
from worker.types import DeadLettered, Direction, ExplanationStatus, Matched, Outcome

OUTCOMES: Final = ("matched", "unmatched", "dead_lettered")
REBALANCE_EVENTS: Final = ("assigned", "revoked", "lost")
CLIENTS: Final = ("consumer", "producer")
LLM_RESULTS: Final = (
    "explained",
    "unknown",  # it answered that it knows no named entity
    "invalid",  # the answer holds nothing usable
    "rate_limited",
    "refused",  # any other 4xx
    "failed",  # 5xx, or no connection
    "timeout",
)
CACHE_RESULTS: Final = ("hit", "unknown", "miss", "waited")  # waited: another call had asked the same
FETCH_RESULTS: Final = ("fetched", "cached", "refused", "unavailable", "too_large", "no_image")
REDIS_USES: Final = ("explanations", "attempts", "budget", "emitted")
_SCORES: Final = tuple(step / 20 for step in range(1, 21))
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_EVENT_SECONDS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One worker's metrics in a registry of their own. Thread-safe.

    Args:
        stages: names of the pipeline's stages; every series of theirs exists from the start.
    """

    def __init__(self, stages: Sequence[str] = ()) -> None:
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
        self.rebalances = Counter(
            "entityclip_rebalances", "Changes of this worker's partitions.", ["event"], registry=registry
        )
        self.lag = Gauge(
            "entityclip_consumer_lag_records",
            "Records of the source that are not delivered yet.",
            ["topic", "partition"],
            registry=registry,
        )
        self.rebuilds = Counter(
            "entityclip_client_rebuilds", "Kafka clients built anew.", ["client"], registry=registry
        )
        self.dropped = Counter(
            "entityclip_posts_dropped",
            "Posts dropped without an outcome because their partition was taken away.",
            registry=registry,
        )
        self.suspects = Counter(
            "entityclip_posts_alone",
            "Posts run one at a time because they were in flight when a worker died.",
            registry=registry,
        )
        self.repeats = Counter(
            "entityclip_matches_known", "Matches not written because they were before.", registry=registry
        )
        self.event_lag = Histogram(
            "entityclip_event_lag_seconds",
            "From the post's publication to its acknowledged outcome.",
            buckets=_EVENT_SECONDS,
            registry=registry,
        )
        self.explanations = Counter(
            "entityclip_explanations",
            "Posts by where their explanation came from.",
            ["status"],
            registry=registry,
        )
        self.explanation_cache = Counter(
            "entityclip_explanation_cache",
            "Look-ups of the explanation cache.",
            ["result"],
            registry=registry,
        )
        self.llm_calls = Counter(
            "entityclip_llm_calls", "Calls of the LLM, by result.", ["result"], registry=registry
        )
        self.llm_seconds = Histogram(
            "entityclip_llm_seconds", "Seconds of one call of the LLM.", buckets=_SECONDS, registry=registry
        )
        self.llm_tokens = Counter(
            "entityclip_llm_tokens", "Tokens the LLM counted.", ["kind"], registry=registry
        )
        self.llm_cost = Counter(
            "entityclip_llm_cost_usd", "What the tokens cost at the configured prices.", registry=registry
        )
        self.fetches = Counter(
            "entityclip_image_fetches",
            "Images asked for by address, by result.",
            ["result"],
            registry=registry,
        )
        self.fetch_bytes = Counter(
            "entityclip_image_fetch_bytes", "Bytes of images downloaded.", registry=registry
        )
        self.fetch_seconds = Histogram(
            "entityclip_image_fetch_seconds", "Seconds of one image.", buckets=_SECONDS, registry=registry
        )
        self.redis_failures = Counter(
            "entityclip_redis_failures",
            "Calls of Redis that failed; work went on.",
            ["use"],
            registry=registry,
        )
        self.retained = Counter(
            "entityclip_retention_deletions", "Runs of retention that deleted old points.", registry=registry
        )
        self.ready = Gauge("entityclip_ready", "1 while the worker is ready.", registry=registry)
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
        self._initialise(stages)

    def _initialise(self, stages: Sequence[str]) -> None:
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
        for metric, labels in (
            (self.rebalances, REBALANCE_EVENTS),
            (self.rebuilds, CLIENTS),
            (self.explanations, tuple(status.value for status in ExplanationStatus)),
            (self.explanation_cache, CACHE_RESULTS),
            (self.llm_calls, LLM_RESULTS),
            (self.llm_tokens, ("prompt", "completion")),
            (self.fetches, FETCH_RESULTS),
            (self.redis_failures, REDIS_USES),
        ):
            for label in labels:
                metric.labels(label)

    def serves(self, model_id: str) -> None:
        """Say which model it is."""
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
        if not isinstance(outcome, DeadLettered) and outcome.published_at is not None:
            self.event_lag.observe(max(0.0, (datetime.now(UTC) - outcome.published_at).total_seconds()))
