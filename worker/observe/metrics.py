"""Every metric of the worker, declared once. Dashboards and alerts may name only what stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from worker.errors import Reason
from worker.types import DeadLettered, Direction, ExplanationStatus, Matched, Outcome
from worker.version import worker_version

disable_created_metrics()  # type: ignore[no-untyped-call]  # half of the page, and nobody asks for them

M = TypeVar("M", Counter, Gauge, Histogram)
_PREFIX: Final = "entityclip_"
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
TOKEN_KINDS: Final = ("prompt", "completion")
STORE_CALLS: Final = ("upsert", "ask", "retrieve", "delete", "count", "other")  # ask: a batch of searches
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
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, open files, when it began: `process_…`
        self._count_posts(stages)
        self._count_waiting()
        self._count_dependencies()

    def _count_posts(self, stages: Sequence[str]) -> None:
        self.posts = self._counter("posts", "Records taken from the source.")
        self.outcomes = self._counter("outcomes", "Posts that reached their outcome.", outcome=OUTCOMES)
        self.dead_letters = self._counter("dead_letters", "Posts refused, by reason.", reason=list(Reason))
        self.dropped = self._counter(
            "posts_dropped", "Posts dropped without an outcome because their partition was taken away."
        )
        self.suspects = self._counter(
            "posts_alone", "Posts run one at a time because they were in flight when a worker died."
        )
        self.matches = self._counter(
            "matches", "Matches written and acknowledged.", direction=list(Direction)
        )
        self.repeats = self._counter("matches_known", "Matches not written because they were before.")
        self.out_of_context = self._counter(
            "out_of_context", "Matches written with a post whose own text and picture do not belong together."
        )
        self.scores = self._histogram("match_score", "Calibrated score of the matches written.", _SCORES)
        self.event_lag = self._histogram(
            "event_lag_seconds", "From the post's publication to its acknowledged outcome.", _EVENT_SECONDS
        )
        self.stage_seconds = self._histogram(
            "stage_seconds", "Seconds a stage took for one batch, retries included.", _SECONDS, stage=stages
        )
        self.stage_busy = self._counter(
            "stage_busy_seconds",
            "Seconds a stage worked, on average over its threads or, for gather, its places; its rate is the "
            "busy ratio.",
            stage=stages,
        )
        self.busy_ratio = self._gauge(
            "stage_busy_ratio",
            "Share of the last 15 s in which a stage worked; prepare or encode near 1 is the bottleneck.",
            stage=stages,
        )
        self.queue_depth = self._gauge("stage_queue_posts", "Posts that wait for a stage.", stage=stages)
        self.batch_size = self._histogram(
            "stage_batch_posts", "Posts in one batch of a stage.", _SIZES, stage=stages
        )
        self.batch_limit = self._gauge(
            "stage_batch_limit_posts",
            "Posts that a batch of a stage may hold; the mean of stage_batch_posts over it is the fill.",
            stage=stages,
        )
        self._device = _Read(_PREFIX + "device_busy_seconds", "Seconds in which the model's device computed.")
        self.registry.register(self._device)
        self.retries = self._counter(
            "stage_retries", "Calls repeated because a dependency was away.", stage=stages
        )

    def _count_waiting(self) -> None:
        self.in_flight_posts = self._gauge("in_flight_posts", "Posts admitted that have no outcome yet.")
        self.in_flight_bytes = self._gauge("in_flight_bytes", "Bytes charged for the posts in flight.")
        self.paused = self._gauge("source_paused", "1 while the source is paused by back-pressure.")
        self.source_away = self._gauge("source_away", "1 while the source cannot be read or does not answer.")
        self.commits = self._counter("commits", "Commits the source has recorded.")
        self.oldest_uncommitted = self._gauge(
            "oldest_uncommitted_seconds", "Age of the record that holds up commits the longest."
        )
        self.lag = self._gauge(
            "consumer_lag_records",
            "Records of the source that are not delivered yet.",
            topic=(),
            partition=(),
        )
        self.ready = self._gauge("ready", "1 while the worker is ready.")
        self.model = self._gauge("model_info", "1, labelled with the model that serves.", model_id=())
        build = self._gauge("build_info", "1, labelled with the worker's version.", version=())
        build.labels(worker_version()).set(1)

    def _count_dependencies(self) -> None:
        self.rebalances = self._counter(
            "rebalances", "Changes of this worker's partitions.", event=REBALANCE_EVENTS
        )
        self.rebuilds = self._counter("client_rebuilds", "Kafka clients built anew.", client=CLIENTS)
        self.redis_failures = self._counter(
            "redis_failures", "Calls of Redis that failed; work went on.", use=REDIS_USES
        )
        self.store_seconds = self._histogram(
            "store_seconds", "Seconds of one call of the vector store.", _SECONDS, call=STORE_CALLS
        )
        self.store_failures = self._counter(
            "store_failures", "Calls of the vector store that failed or were refused.", call=STORE_CALLS
        )
        self.explanations = self._counter(
            "explanations", "Posts by where their explanation came from.", status=list(ExplanationStatus)
        )
        self.explanation_cache = self._counter(
            "explanation_cache", "Look-ups of the explanation cache.", result=CACHE_RESULTS
        )
        self.llm_calls = self._counter("llm_calls", "Calls of the LLM, by result.", result=LLM_RESULTS)
        self.llm_seconds = self._histogram("llm_seconds", "Seconds of one call of the LLM.", _SECONDS)
        self.llm_tokens = self._counter("llm_tokens", "Tokens the LLM counted.", kind=TOKEN_KINDS)
        self.llm_cost = self._counter("llm_cost_usd", "What the tokens cost at the configured prices.")
        self.fetches = self._counter(
            "image_fetches", "Images asked for by address, by result.", result=FETCH_RESULTS
        )
        self.fetch_bytes = self._counter("image_fetch_bytes", "Bytes of images downloaded.")
        self.fetch_seconds = self._histogram("image_fetch_seconds", "Seconds of one image.", _SECONDS)
        self.retained = self._counter("retention_deletions", "Runs of retention that deleted old points.")

    def _counter(self, name: str, meaning: str, **labels: Sequence[str]) -> Counter:
        return _with_series(Counter(_PREFIX + name, meaning, tuple(labels), registry=self.registry), labels)

    def _gauge(self, name: str, meaning: str, **labels: Sequence[str]) -> Gauge:
        return _with_series(Gauge(_PREFIX + name, meaning, tuple(labels), registry=self.registry), labels)

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], **labels: Sequence[str]
    ) -> Histogram:
        metric = Histogram(_PREFIX + name, meaning, tuple(labels), buckets=buckets, registry=self.registry)
        return _with_series(metric, labels)

    def watch_device(self, busy_s: Callable[[], float]) -> None:
        """Say where the seconds come from in which the model's device computed; 0 until then. Any thread."""
        self._device.read = busy_s

    def serves(self, model_id: str) -> None:
        """Say which model it is."""
        self.model.labels(model_id).set(1)

    def store_called(self, call: str, seconds: float, failed: bool) -> None:
        """Count one call of the vector store."""
        name = call if call in STORE_CALLS else "other"
        self.store_seconds.labels(name).observe(seconds)
        self.store_failures.labels(name).inc(failed)

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
                self.out_of_context.inc(bool(match.out_of_context))
        else:
            self.outcomes.labels("unmatched").inc()
        if not isinstance(outcome, DeadLettered) and outcome.published_at is not None:
            self.event_lag.observe(max(0.0, (datetime.now(UTC) - outcome.published_at).total_seconds()))


class _Read(Collector):
    """A counter that somebody else counts."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name, self._meaning = name, meaning
        self.read: Callable[[], float] = lambda: 0.0

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Its one series."""
        yield CounterMetricFamily(self._name, self._meaning, value=self.read())


def _with_series(metric: M, labels: Mapping[str, Sequence[str]]) -> M:
    """Make the series of every value that is known beforehand: a rate needs a zero to begin with."""
    if len(labels) == 1:
        for value in next(iter(labels.values())):
            metric.labels(str(value))
    return metric
