"""A progress bar on a terminal, and the lines that end a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.flow.pipeline import Summary
    from worker.types import Outcome


@contextmanager
def outcome_progress(title: str, total: int | None = None) -> Iterator[Callable[[Outcome], None]]:
    """Show posts as their outcomes arrive; nothing where standard error is no terminal.

    Yields:
        To be called with every outcome, from any one thread.
    """
    from tqdm import tqdm

    from worker.types import DeadLettered, Matched

    counts = {"matches": 0, "dead letters": 0}
    with tqdm(total=total, desc=title, unit="post", file=sys.stderr, disable=None, leave=False) as bar:

        def show(outcome: Outcome) -> None:
            if isinstance(outcome, Matched):
                counts["matches"] += len(outcome.matches)
            elif isinstance(outcome, DeadLettered):
                counts["dead letters"] += 1
            bar.set_postfix(counts, refresh=False)
            bar.update()

        yield show


def summary_lines(summary: Summary, *, written: bool = True) -> list[str]:
    """What became of the posts, in one to two lines.

    Args:
        written: whether matches were to be.
    """
    dead = sum(summary.dead_lettered.values())
    rate = summary.posts / summary.seconds if summary.seconds > 0 else 0.0
    lines = [
        f"{summary.posts} posts in {summary.seconds:.1f} s ({rate:.1f} posts/s): {summary.matched} matched, "
        f"{summary.unmatched} unmatched, {dead} dead letters; "
        + (f"{summary.matches} matches" if written else "matches not written")
    ]
    if dead:
        reasons = sorted(summary.dead_lettered.items(), key=lambda item: (-item[1], item[0]))
        lines.append("dead letters: " + ", ".join(f"{count} {reason}" for reason, count in reasons if count))
    return lines
