"""The dashboard's rows about what comes out: what is refused and why, what matches and how well."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import (
    ORANGE,
    POSTS_A_SECOND,
    SHARE,
    Panel,
    Query,
    Row,
    mean,
    ratio,
    select,
    total_rate,
)

DEAD_LETTERS: Final = Row(
    "Dead letters",
    (
        Panel(
            "Dead letters by reason",
            "Posts refused, by reason. Good: a trickle. A sudden reason: its producer changed "
            "(invalid_…), a host blocks us (image_unavailable), the model or its device is ill "
            "(encoding_failed).",
            POSTS_A_SECOND,
            (Query(total_rate("entityclip_dead_letters_total", by="reason"), "{{reason}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Refused in the chosen time",
            "How many posts were refused, by reason. Good: what you can read one by one with `entityclip "
            "dead-letters list`. Once the cause is mended: `entityclip dead-letters replay`.",
            "suffix:posts",
            (
                Query(
                    f"sum by (reason) (increase({select('entityclip_dead_letters_total')}[$__range]))",
                    "{{reason}}",
                    instant=True,
                ),
            ),
            "bargauge",
            width=12,
            steps=((1, ORANGE),),
            decimals=0,
        ),
    ),
)

MATCHES: Final = Row(
    "Matches and scores",
    (
        Panel(
            "Matches",
            "Matches written, by which side searched, and pairs not written again since they were before."
            " Good: both directions. Only one: one side's posts are missing. Many known: a replay.",
            "suffix:matches/s",
            (
                Query(total_rate("entityclip_matches_total", by="direction"), "{{direction}}"),
                Query(total_rate("entityclip_matches_known_total"), "known"),
            ),
        ),
        Panel(
            "Scores",
            "How many matches have which calibrated score. Good: the same picture day by day. All low: "
            "the threshold is low or the model does not fit the news; nothing near 1: the calibration is "
            "off.",
            "none",
            (
                Query(
                    f"sum by (le) (increase({select('entityclip_match_score_bucket')}[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            "heatmap",
        ),
        Panel(
            "Shares",
            "Posts that match anything, and matches with a post whose own text and picture do not belong "
            "together. Good: both steady. Matched falls to 0: readers get nothing. Out of context jumps: "
            "a campaign of false pictures, or a source that mixes its pictures up.",
            SHARE,
            (
                Query(
                    ratio(
                        total_rate("entityclip_outcomes_total", 'outcome="matched"'),
                        total_rate("entityclip_outcomes_total"),
                    ),
                    "posts matched",
                ),
                Query(
                    ratio(
                        total_rate("entityclip_out_of_context_total"), total_rate("entityclip_matches_total")
                    ),
                    "matches out of context",
                ),
            ),
        ),
        Panel(
            "Mean score",
            "Mean calibrated score of the matches written. Good: a flat line. A step: a new model or "
            "threshold.",
            "none",
            (Query(mean("entityclip_match_score"), "mean score"),),
            width=24,
            height=6,
            top=1,
        ),
    ),
)
