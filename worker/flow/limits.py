"""When so much is refused that the posts cannot be what is wrong: stop, before it is all committed."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from worker.errors import FatalError, Reason
from worker.sections import DeadLetterLimits
from worker.types import DeadLettered, Outcome

_HOLD_S = 5.0
_REMEDY = (
    "nothing more is committed; see `entityclip dead-letters list` for why, and set "
    "dead_letter_limits.ignore to go on all the same"
)


class DeadLetterGuard:
    """Counts outcomes in the order in which they come. The main thread only; never blocks.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, limits: DeadLetterLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._window: deque[Reason | None] = deque()  # None: not refused
        self._in_window: Counter[Reason] = Counter()
        self._run: Counter[Reason] = Counter()
        self._newest_at = 0.0

    def note(self, outcome: Outcome) -> None:
        """Count one outcome.

        Raises:
            FatalError: a limit is passed; one line with the counts and what to do.
        """
        if self._limits.ignore:
            return
        reason = outcome.reason if isinstance(outcome, DeadLettered) else None
        self._slide(reason)
        if reason is None:
            self._run.clear()
        else:
            self._run[reason] += 1
            self._newest_at = self._clock()
        self._check()

    def holds_commits(self) -> bool:
        """Whether the newest outcomes are refusals that may be the start of a flood.

        A flood must not be committed bit by bit before a limit stops it: while the last outcome was a
        refusal, commits wait until it is 5 s old. A quiet stream's last bad post is so committed after that.
        """
        return bool(self._run) and self._clock() - self._newest_at < _HOLD_S

    def _slide(self, reason: Reason | None) -> None:
        self._window.append(reason)
        if reason is not None:
            self._in_window[reason] += 1
        if len(self._window) > self._limits.window:
            oldest = self._window.popleft()
            if oldest is not None:
                self._in_window[oldest] -= 1

    def _check(self) -> None:
        run, refused = self._run.total(), self._in_window.total()
        if run > self._limits.max_run:
            raise FatalError(
                f"{run} posts in a row were refused, more than dead_letter_limits.max_run "
                f"({self._limits.max_run}), {_commonest(self._run)}: {_REMEDY}"
            )
        window = len(self._window)
        if window == self._limits.window and refused > self._limits.max_ratio * window:
            raise FatalError(
                f"{refused} of the last {window} posts were refused, more than "
                f"dead_letter_limits.max_ratio ({self._limits.max_ratio:g}), "
                f"{_commonest(self._in_window)}: {_REMEDY}"
            )


def _commonest(reasons: Counter[Reason]) -> str:
    reason, count = reasons.most_common(1)[0]
    return f"{count} of them {reason}"
