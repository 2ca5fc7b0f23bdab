"""The dashboard's first row: whether it is well, at a glance."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import (
    FIRING,
    ORANGE,
    OURS,
    POSTS_A_SECOND,
    RED,
    SHARE,
    Panel,
    Query,
    Row,
    quantile,
    ratio,
    select,
    total_rate,
)

_DEAD_SHARE = ratio(
    total_rate("entityclip_outcomes_total", 'outcome="dead_lettered"'),
    total_rate("entityclip_outcomes_total"),
)
_BUSIEST = f"topk(1, avg by (stage) ({select('entityclip_stage_busy_ratio')}))"
_LAG = f"sum({select('entityclip_consumer_lag_records')})"

OVERVIEW: Final = Row(
    "Overview",
    (
        Panel(
            "Workers ready",
            "Workers that answer /readyz with 200, and those that are scraped. Good: both the same, as "
            "many as there are replicas. Fewer ready: they load, wait for a dependency, or hang; /readyz "
            "says which.",
            "short",
            (
                Query(f"sum({select('entityclip_ready')})", "ready"),
                Query(f"count({select('up', OURS)})", "scraped"),
            ),
            "stat",
            4,
            4,
            named=True,
        ),
        Panel(
            "Posts",
            "Posts that reach an outcome. Good: as many as are published. 0 with a lag above 0: nothing "
            "moves.",
            POSTS_A_SECOND,
            (Query(total_rate("entityclip_outcomes_total"), "posts"),),
            "stat",
            4,
            4,
        ),
        Panel(
            "Matches",
            "Matches written and acknowledged. Good: about the same share of posts as on other days. A "
            "drop without a drop of posts: the model, the threshold or the collection is not what it was.",
            "suffix:matches/s",
            (Query(total_rate("entityclip_matches_total"), "matches"),),
            "stat",
            4,
            4,
        ),
        Panel(
            "Lag",
            "Records of the posts' topic that no worker has taken yet. Good: a few hundred, or falling. "
            "Growing: the workers are slower than the stream.",
            "suffix:records",
            (Query(_LAG, "lag"),),
            "stat",
            4,
            4,
            ((10_000, ORANGE), (100_000, RED)),
        ),
        Panel(
            "Event lag p95",
            "From a post's publication to its outcome, for 95 of 100 posts. Good: seconds. Minutes: see "
            "Lag. It is long, too, while old posts are replayed or published late.",
            "s",
            (Query(quantile(0.95, "entityclip_event_lag_seconds"), "p95"),),
            "stat",
            4,
            4,
            ((300, ORANGE), (900, RED)),
        ),
        Panel(
            "Dead letters",
            "Share of the posts that are refused. Good: under 1 %. Above: see the reasons further down; "
            "past dead_letter_limits (half of 1,000 posts, or 200 in a row) a worker stops by itself.",
            SHARE,
            (Query(_DEAD_SHARE, "dead letters"),),
            "stat",
            4,
            4,
            ((0.05, ORANGE), (0.25, RED)),
        ),
        Panel(
            "Alerts firing",
            "Alerts of this installation that fire now. Good: 0. Each has a section in the runbook, "
            "linked above.",
            "short",
            (Query(f"count({FIRING}) or vector(0)", "firing"),),
            "stat",
            4,
            4,
            ((1, RED),),
        ),
        Panel(
            "Oldest uncommitted",
            "Age of the record that holds up commits the longest. Good: below the LLM's deadline (20 s) "
            "and a batch. Minutes: a post waits for a dependency, or hangs; a restart would repeat all "
            "since then.",
            "s",
            (Query(f"max({select('entityclip_oldest_uncommitted_seconds')})", "oldest"),),
            "stat",
            4,
            4,
            ((60, ORANGE), (600, RED)),
        ),
        Panel(
            "Busiest stage",
            "The stage that worked the largest share of the last 15 s: the bottleneck, where it is near "
            "100 %. Good: encode, or none near 100 %. Another one: the model's device waits for it.",
            SHARE,
            (Query(_BUSIEST, "{{stage}}", instant=True),),
            "stat",
            4,
            4,
            ((0.9, ORANGE),),
            named=True,
        ),
        Panel(
            "Store p95",
            "Time of a call of the vector store, for 95 of 100 calls. Good: under 0.1 s. Above 1 s: "
            "Qdrant is overloaded, optimises, or reads vectors from disk.",
            "s",
            (Query(quantile(0.95, "entityclip_store_seconds"), "p95"),),
            "stat",
            4,
            4,
            ((0.5, ORANGE), (2, RED)),
        ),
        Panel(
            "Restarts",
            "How often a worker began anew, in the chosen time. Good: 0 but for upgrades. More: look for "
            "OOMKilled, exit codes and the last lines of the log.",
            "short",
            (
                Query(
                    f"sum(changes({select('process_start_time_seconds', OURS)}[$__range]))",
                    "restarts",
                    instant=True,
                ),
            ),
            "stat",
            4,
            4,
            ((1, ORANGE), (5, RED)),
            decimals=0,
        ),
        Panel(
            "LLM cost, 24 hours",
            "What the LLM's tokens of the last 24 hours cost at the configured prices; 0 without prices. "
            "Good: within the budget. See Explanations for what drives it.",
            "currencyUSD",
            (
                Query(
                    f"sum(increase({select('entityclip_llm_cost_usd_total')}[24h]))", "24 hours", instant=True
                ),
            ),
            "stat",
            4,
            4,
            decimals=2,
        ),
    ),
)
