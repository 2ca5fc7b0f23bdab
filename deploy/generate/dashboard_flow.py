"""The dashboard's rows about the stream: how much, how late, and which stage holds it up."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import (
    ORANGE,
    POSTS_A_SECOND,
    RED,
    SHARE,
    Panel,
    Query,
    Row,
    mean,
    quantile,
    quantiles,
    rate,
    ratio,
    recent,
    select,
    total_rate,
)

_LAG = f"sum({select('entityclip_consumer_lag_records')})"

THROUGHPUT: Final = Row(
    "Throughput and outcomes",
    (
        Panel(
            "Posts taken, and outcomes",
            "Records taken from the topic, and what became of them. Good: matched and unmatched together "
            "follow taken. Taken above outcomes for minutes: posts pile up in flight.",
            POSTS_A_SECOND,
            (
                Query(total_rate("entityclip_posts_total"), "taken"),
                Query(total_rate("entityclip_outcomes_total", by="outcome"), "{{outcome}}"),
            ),
        ),
        Panel(
            "Posts by worker",
            "Outcomes of each worker. Good: about the same everywhere. One at 0: it has no partition "
            "(more workers than partitions) or it hangs.",
            POSTS_A_SECOND,
            (Query(total_rate("entityclip_outcomes_total", by="instance"), "{{instance}}"),),
        ),
        Panel(
            "Posts in flight",
            "Posts of each worker between delivery and outcome. Good: below limits.in_flight_posts (256)."
            " At the limit for long: something further down is slow, see Stages.",
            "suffix:posts",
            (Query(f"sum by (instance) ({select('entityclip_in_flight_posts')})", "{{instance}}"),),
        ),
        Panel(
            "Bytes in flight",
            "Bytes charged for the posts in flight of each worker. Good: below limits.in_flight_bytes "
            "(256 MiB). At the limit with few posts: large pictures.",
            "bytes",
            (Query(f"sum by (instance) ({select('entityclip_in_flight_bytes')})", "{{instance}}"),),
        ),
        Panel(
            "Time paused",
            "Share of the time in which a worker takes no further records, since enough are in flight, or "
            "in which Kafka does not answer it (away). Good: anything while it catches up, else near 0; "
            "away never. Near 100 % with idle stages: a dependency is away.",
            SHARE,
            (
                Query(
                    f"avg by (instance) ("
                    f"avg_over_time({select('entityclip_source_paused')}[$__rate_interval]))",
                    "{{instance}}",
                ),
                Query(
                    f"avg by (instance) ("
                    f"avg_over_time({select('entityclip_source_away')}[$__rate_interval]))",
                    "{{instance}} away",
                ),
            ),
            top=1,
        ),
        Panel(
            "Dropped or alone",
            "Posts of the last ten minutes that were dropped since their partition went to another "
            "worker, or run one at a time since they were in flight when a worker died. Good: 0 but for "
            "rebalances. Alone again and again: a post kills the process; after two deaths it becomes a "
            "dead letter.",
            "suffix:posts",
            (
                Query(recent("entityclip_posts_dropped_total"), "dropped"),
                Query(recent("entityclip_posts_alone_total"), "alone"),
            ),
        ),
    ),
)

LAG: Final = Row(
    "Lag",
    (
        Panel(
            "Lag by partition",
            "Records of each partition that no worker has taken yet. Good: all about the same, and low. "
            "One that grows alone: its worker hangs, or one key gets most records.",
            "suffix:records",
            (
                Query(
                    f"sum by (topic, partition) ({select('entityclip_consumer_lag_records')})",
                    "{{topic}} {{partition}}",
                ),
            ),
        ),
        Panel(
            "Time to catch up",
            "The lag over the rate of outcomes: how long it takes to the end if nothing more came. Good: "
            "seconds. Above an hour: add workers, up to the number of partitions.",
            "s",
            (Query(ratio(_LAG, total_rate("entityclip_outcomes_total")), "to catch up"),),
        ),
        Panel(
            "Event lag",
            "From a post's publication to its acknowledged outcome. Good: seconds; p99 may hold the LLM's"
            " deadline. All three up: the workers are behind. Only p99: few posts wait for something.",
            "s",
            tuple(quantiles("entityclip_event_lag_seconds")),
            logarithmic=True,
        ),
        Panel(
            "Oldest uncommitted record",
            "Age of the record that holds up commits the longest, by worker. Good: seconds. A straight "
            "line upwards: one post does not end; what stands behind it is repeated after a restart.",
            "s",
            (
                Query(
                    f"max by (instance) ({select('entityclip_oldest_uncommitted_seconds')})", "{{instance}}"
                ),
            ),
            width=24,
            height=6,
            steps=((600, RED),),
        ),
    ),
)

STAGES: Final = Row(
    "Stages",
    (
        Panel(
            "Busy now",
            "Share of the last 15 s in which each stage worked, on average over the workers. The longest "
            "bar is the bottleneck. Good: encode is the longest. gather: LLM or image hosts; prepare: "
            "decoding, give it cores; index, match: the store; emit: the brokers.",
            SHARE,
            (Query(f"avg by (stage) ({select('entityclip_stage_busy_ratio')})", "{{stage}}", instant=True),),
            "bargauge",
            steps=((0.7, ORANGE), (0.9, RED)),
            top=1,
        ),
        Panel(
            "Busy",
            "The same over time. Good: encode above the others under load, all low without. A stage that "
            "stays at 100 % bounds the whole worker.",
            SHARE,
            (
                Query(
                    f"avg by (stage) ({rate('entityclip_stage_busy_seconds_total')})",
                    "{{stage}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Posts that wait",
            "Posts in the queue of each stage, of all workers. Good: near 0. The bottleneck's queue is "
            "the one that is full; those behind it are empty.",
            "suffix:posts",
            (Query(f"sum by (stage) ({select('entityclip_stage_queue_posts')})", "{{stage}}"),),
        ),
        Panel(
            "Time of a batch, p50",
            "What half of a stage's batches take at most, retries included. Good: tens of milliseconds; "
            "gather takes as long as the LLM. Everything slower: too few cores, or the pod is throttled.",
            "s",
            (Query(quantile(0.5, "entityclip_stage_seconds", by="stage"), "{{stage}}"),),
            logarithmic=True,
        ),
        Panel(
            "Time of a batch, p95",
            "The same for 95 of 100 batches. Good: within a few times of p50. Far above: retries or a "
            "dependency that stutters.",
            "s",
            (Query(quantile(0.95, "entityclip_stage_seconds", by="stage"), "{{stage}}"),),
            logarithmic=True,
        ),
        Panel(
            "Batch fill",
            "Mean size of a stage's batches over the largest allowed. Good under load: encode above 50 %."
            " Low with a lag: the stages before it do not keep up. gather takes one post at a time: "
            "always 100 %.",
            SHARE,
            (
                Query(
                    ratio(
                        mean("entityclip_stage_batch_posts", by="stage"),
                        f"max by (stage) ({select('entityclip_stage_batch_limit_posts')})",
                    ),
                    "{{stage}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Retries",
            "Calls of each stage repeated in the last ten minutes because a dependency was away. Good: 0."
            " prepare: the pictures' folder or the media store; index, match: Qdrant; emit: the brokers. "
            "Nothing is lost meanwhile.",
            "suffix:retries",
            (Query(recent("entityclip_stage_retries_total", by="stage"), "{{stage}}"),),
            width=24,
            height=6,
        ),
    ),
)
