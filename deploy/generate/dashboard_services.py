"""The dashboard's rows about what the worker depends on: LLM, caches, image hosts, Qdrant, Kafka."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import (
    SHARE,
    Panel,
    Query,
    Row,
    mean,
    quantile,
    quantiles,
    ratio,
    recent,
    select,
    total_rate,
)

_FAILED_CALLS = 'result=~"failed|timeout|refused|invalid"'
_CALLS_A_SECOND = "suffix:calls/s"
_SAVED_LOOKUPS = 'result=~"hit|unknown|waited"'

LLM: Final = Row(
    "Explanations: LLM and cache",
    (
        Panel(
            "Calls by result",
            "Calls of the LLM, by result. Good: explained, and some unknown. rate_limited: over the "
            "endpoint's budget; failed, timeout: it is down or slow; refused: key or model name; invalid:"
            " not our format. Flat 0 where no LLM is configured.",
            _CALLS_A_SECOND,
            (Query(total_rate("entityclip_llm_calls_total", by="result"), "{{result}}"),),
            stacked=True,
        ),
        Panel(
            "Failed calls",
            "Share of the calls that gave nothing, without those over the rate limit. Good: under 5 %. "
            "All: the posts go on without explanations and match worse; `entityclip enrich` explains them"
            " later.",
            SHARE,
            (
                Query(
                    ratio(
                        total_rate("entityclip_llm_calls_total", _FAILED_CALLS),
                        total_rate("entityclip_llm_calls_total"),
                    ),
                    "failed",
                ),
                Query(
                    ratio(
                        total_rate("entityclip_llm_calls_total", 'result="rate_limited"'),
                        total_rate("entityclip_llm_calls_total"),
                    ),
                    "rate limited",
                ),
            ),
            top=1,
        ),
        Panel(
            "Time of a call",
            "Seconds of one call of the LLM. Good: p95 well below llm.call_timeout_s (10 s). Near it: the"
            " endpoint is overloaded; lower llm.concurrency or give it more.",
            "s",
            tuple(quantiles("entityclip_llm_seconds")),
            logarithmic=True,
        ),
        Panel(
            "Tokens",
            "Tokens that the LLM counted. Good: in step with the calls. prompt above 1,000 a call: posts "
            "are long; completion at max_tokens: answers are cut off.",
            "suffix:tokens/s",
            (Query(total_rate("entityclip_llm_tokens_total", by="kind"), "{{kind}}"),),
        ),
        Panel(
            "Cost an hour",
            "What the tokens cost at the configured prices, at the rate of now; 0 without prices. Good: "
            "within the budget. Up with as many posts: the cache no longer hits.",
            "currencyUSD",
            (Query(f"{total_rate('entityclip_llm_cost_usd_total')} * 3600", "an hour"),),
        ),
        Panel(
            "Explanations by status",
            "Posts by where their explanation came from. Good: generated and given. failed: the LLM was "
            "down, too slow or over its budget; none: no LLM, or the source is opted out.",
            "suffix:posts/s",
            (Query(total_rate("entityclip_explanations_total", by="status"), "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Cache look-ups",
            "Look-ups of the explanation cache. Good: hits. waited: another post had just asked the same,"
            " and one call served both.",
            "suffix:look-ups/s",
            (Query(total_rate("entityclip_explanation_cache_total", by="result"), "{{result}}"),),
            stacked=True,
        ),
        Panel(
            "Cache hit ratio",
            "Share of the look-ups that needed no call. Good: what the stream repeats; it rises for days "
            "after a start. Suddenly near 0: Redis was emptied, or the model or prompt changed.",
            SHARE,
            (
                Query(
                    ratio(
                        total_rate("entityclip_explanation_cache_total", _SAVED_LOOKUPS),
                        total_rate("entityclip_explanation_cache_total"),
                    ),
                    "hit ratio",
                ),
            ),
            top=1,
        ),
        Panel(
            "Redis failures",
            "Calls of Redis that failed in the last ten minutes, by what for. Good: 0. Work goes on, but "
            "explanations: calls are paid twice; emitted: matches may go out again; attempts: a deadly "
            "post is tried more often; budget: each worker limits itself alone.",
            "suffix:calls",
            (Query(recent("entityclip_redis_failures_total", by="use"), "{{use}}"),),
        ),
    ),
)

IMAGES: Final = Row(
    "Images from hosts",
    (
        Panel(
            "Images by result",
            "Images asked for by address. Good: fetched and cached. refused: a private address or an "
            "opt-out; unavailable: the host fails or blocks us; no_image: a page instead of a picture.",
            "suffix:images/s",
            (Query(total_rate("entityclip_image_fetches_total", by="result"), "{{result}}"),),
            stacked=True,
        ),
        Panel(
            "Time of an image",
            "Seconds of one image, redirects and repeats included. Good: p95 under 2 s. Near "
            "fetch.total_s (15 s): slow hosts, or the way out is full.",
            "s",
            tuple(quantiles("entityclip_image_fetch_seconds")),
            logarithmic=True,
        ),
        Panel(
            "Bytes downloaded",
            "Bytes of images downloaded, of all workers. Good: well below the network's share of the "
            "nodes. A plateau with long times: the way out is full.",
            "Bps",
            (Query(total_rate("entityclip_image_fetch_bytes_total"), "downloaded"),),
        ),
    ),
)

STORE: Final = Row(
    "Qdrant",
    (
        Panel(
            "Calls",
            "Calls of the vector store, by kind; ask is a batch of searches. Good: in step with the "
            "posts. Far more asks than posts: long texts, or posts with many pictures.",
            _CALLS_A_SECOND,
            (Query(total_rate("entityclip_store_seconds_count", by="call"), "{{call}}"),),
        ),
        Panel(
            "Time of a call, p95",
            "What 95 of 100 calls take at most. Good: under 0.1 s. ask up: the collection outgrew memory "
            "or is being optimised; upsert up: the disk, or a replica that lags.",
            "s",
            (Query(quantile(0.95, "entityclip_store_seconds", by="call"), "{{call}}"),),
            logarithmic=True,
        ),
        Panel(
            "Mean time of a call",
            "The mean of the same: what a post waits for the store. Good: a flat line. A slow climb: the "
            "collection grows past what its nodes hold in memory.",
            "s",
            (Query(mean("entityclip_store_seconds", by="call"), "{{call}}"),),
        ),
        Panel(
            "Failed calls",
            "Calls of the last ten minutes that failed or were refused. Good: 0. The worker waits and "
            "repeats; it loses nothing. Refused for good: the points become dead letters "
            "(store_rejected).",
            "suffix:calls",
            (Query(recent("entityclip_store_failures_total", by="call"), "{{call}}"),),
            width=12,
        ),
        Panel(
            "Retries at the store",
            "Batches of index and match that were repeated in the last ten minutes since the store was "
            "away. Good: 0. Rising: /readyz turns to 503 after health.stalled_s (60 s).",
            "suffix:retries",
            (
                Query(
                    recent("entityclip_stage_retries_total", 'stage=~"index|match"', by="stage"), "{{stage}}"
                ),
            ),
        ),
        Panel(
            "Retention",
            "Runs of the last ten minutes that deleted points older than retention_days. Good: 0 without "
            "retention, else now and then. 0 for days with it: points pile up.",
            "suffix:runs",
            (Query(recent("entityclip_retention_deletions_total"), "runs"),),
            width=4,
        ),
    ),
)

KAFKA: Final = Row(
    "Kafka",
    (
        Panel(
            "Rebalances",
            "Changes of the workers' partitions in the last ten minutes. Good: 0 but for upgrades and "
            "scaling. Again and again: pods die, or scale up and down in turn. lost: a worker was silent "
            "for longer than the session timeout; look for a throttled CPU or a node that swaps.",
            "suffix:changes",
            (Query(recent("entityclip_rebalances_total", by="event"), "{{event}}"),),
            width=6,
        ),
        Panel(
            "Clients built anew",
            "Kafka clients that were replaced in the last ten minutes since they could not go on. Good: "
            "0. Above: brokers were away for long, or credentials and certificates changed.",
            "suffix:clients",
            (Query(recent("entityclip_client_rebuilds_total", by="client"), "{{client}}"),),
            width=6,
        ),
        Panel(
            "Partitions by worker",
            "How many partitions each worker reads. Good: the same, give or take one. 0, or no line: more"
            " workers than partitions, and this one only waits. The sum below the topic's number: a "
            "rebalance goes on.",
            "suffix:partitions",
            (Query(f"count by (instance) ({select('entityclip_consumer_lag_records')})", "{{instance}}"),),
            width=6,
            decimals=0,
        ),
        Panel(
            "Commits",
            "Commits that the brokers recorded, by worker. Good: steadily above 0 while posts come. 0 "
            "while outcomes go on: the group's coordinator is away, or the worker lost its partitions.",
            "suffix:commits/s",
            (Query(total_rate("entityclip_commits_total", by="instance"), "{{instance}}"),),
            width=6,
        ),
    ),
)
