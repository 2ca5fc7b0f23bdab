"""The dashboard's last row: what the rules record. The raw series cost too much over ranges of weeks."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import POSTS_A_SECOND, SHARE, Panel, Query, Row

_RELEASES: Final = 'namespace=~"$namespace", release=~"$release"'  # of all workers: no instance


def _worst(what: str, by: str = "") -> str:
    """A recorded series, of the worst of the chosen releases; without NaN, where nothing was observed."""
    labels = f" by ({by}) " if by else ""
    return f"max{labels}({_recorded(what)} >= 0)"


def _total(what: str) -> str:
    """A recorded series of the chosen releases together."""
    return f"sum({_recorded(what)})"


def _recorded(what: str) -> str:
    return f"namespace_release:entityclip_{what}{{{_RELEASES}}}"


WEEKS: Final = Row(
    "Over weeks (recorded, all workers of a release)",
    (
        Panel(
            "Rates",
            "Posts taken, outcomes, dead letters and matches a second. Good: the same shape every week. A"
            " level that moves: plan partitions, workers and the store's disk by it.",
            POSTS_A_SECOND,
            (
                Query(_total("posts:rate5m"), "taken"),
                Query(_total("outcomes:rate5m"), "outcomes"),
                Query(_total("dead_letters:rate5m"), "dead letters"),
                Query(_total("matches:rate5m"), "matches"),
            ),
        ),
        Panel(
            "Event lag",
            "From publication to outcome. Good: no peak lasts longer than a burst of news. Peaks that "
            "grow week by week: too few workers for the busiest hour.",
            "s",
            tuple(
                Query(_worst(f"event_lag_p{share}_seconds:quantile5m"), f"p{share}") for share in (50, 95, 99)
            ),
            logarithmic=True,
        ),
        Panel(
            "Backlog",
            "Records that no worker has taken. Good: back at 0 after each burst. It stays up at the "
            "busiest hour: more workers, or a faster bottleneck.",
            "suffix:records",
            (Query(_total("consumer_lag_records:sum"), "lag"),),
        ),
        Panel(
            "Stage p99",
            "What 99 of 100 batches of a stage take at most. Good: flat. index and match climb with the "
            "collection: it outgrows the store's memory.",
            "s",
            (Query(_worst("stage_p99_seconds:quantile5m", "stage"), "{{stage}}"),),
            logarithmic=True,
        ),
        Panel(
            "Store p99",
            "The same for the calls of the vector store. Good: flat. Climbing: see Stage p99; steps: "
            "optimising, or a node less.",
            "s",
            (Query(_worst("store_p99_seconds:quantile5m", "call"), "{{call}}"),),
            logarithmic=True,
        ),
        Panel(
            "Matches a post",
            "Matches of an hour over its posts. Good: the same band every week. A step: another model, "
            "threshold or source; sinking: retention deletes partners before they are found.",
            "none",
            (Query(_worst("matches_per_post:ratio1h"), "matches a post"),),
        ),
        Panel(
            "Failures",
            "Share of posts that are dead letters, of store calls, LLM calls, explanations and image "
            "fetches that fail. Good: all near 0. One that never goes back to 0 is a fault that everybody"
            " got used to.",
            SHARE,
            (
                Query(_worst("dead_letters:ratio15m"), "dead letters"),
                Query(_worst("store_failures:ratio5m"), "store calls"),
                Query(_worst("llm_failures:ratio15m"), "LLM calls"),
                Query(_worst("explanations_failed:ratio15m"), "explanations"),
                Query(_worst("image_fetches_unavailable:ratio15m"), "image fetches"),
            ),
        ),
        Panel(
            "LLM cost an hour, and its budget",
            "What the LLM cost in each hour at the configured prices, and the budget of the alert. Good: "
            "below it. Above: see Explanations; the budget itself is a number in the rules.",
            "currencyUSD",
            (
                Query(_total("llm_cost_usd:increase1h"), "cost"),
                Query(_total("llm_budget_usd_per_hour:constant"), "budget"),
            ),
        ),
        Panel(
            "LLM calls, and what the cache saves",
            "Calls of the LLM a second, and the share of look-ups that needed none. Good: calls flat "
            "while the share rises. The share falls: Redis is too small, or entries expire too soon "
            "(llm.cache_days).",
            "none",
            (
                Query(_total("llm_calls:rate5m"), "calls a second"),
                Query(_worst("explanation_cache_hits:ratio5m"), "share saved"),
            ),
        ),
    ),
)
