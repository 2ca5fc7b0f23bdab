"""Whether the worker makes progress: what `/readyz` and `/livez` answer.

Ready means warm and moving on, not "the process still runs". A worker that only waits for a dependency
which is away stops being ready, but it is alive: a restart would not bring the dependency back.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from worker.printable import one_line
from worker.sections import HealthConfig

Verdict = tuple[bool, list[str]]
_REASON_CHARS = 300


@dataclass(slots=True)
class _Call:
    """A call that has not returned.

    Args:
        since_s: when it began, or began anew after a dependency was away.
        waiting_since_s: when its dependency was first found away; None while it is not.
        reason: what is away.
    """

    stage: str
    since_s: float
    waiting_since_s: float | None = None
    reason: str = ""


class Health:
    """What the threads of a worker report about themselves, and what follows from it.

    Every method may be called from any thread and costs a lock that is held for microseconds.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, config: HealthConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._is_warm = False
        self._is_draining = False
        self._ticked_s = clock()

    # -- what the worker tells ----------------------------------------------------------------

    def warm(self) -> None:
        """Everything is loaded and the main loop is about to turn."""
        with self._lock:
            self._is_warm = True
            self._ticked_s = self._clock()

    def draining(self) -> None:
        """A stop was asked for: never ready again."""
        self._is_draining = True  # no lock: a signal handler may interrupt whoever holds it

    def tick(self) -> None:
        """The main loop has turned once more."""
        self._ticked_s = self._clock()  # a single assignment: no reader can see half of it

    def begin(self, stage: str) -> int:
        """A thread of this stage begins a call; `end` the token in a `finally`."""
        call = _Call(stage, self._clock())
        with self._lock:
            token = next(self._tokens)
            self._calls[token] = call
        return token

    def end(self, token: int) -> None:
        """The call has returned or raised."""
        with self._lock:
            self._calls.pop(token, None)

    def waiting(self, token: int, reason: str, pause_s: float = 0.0) -> None:
        """The call found its dependency away and will be repeated.

        Args:
            reason: one line that names the dependency.
            pause_s: seconds until it is repeated.
        """
        now_s = self._clock()
        with self._lock:
            call = self._calls.get(token)
            if call is not None:
                call.since_s = now_s + pause_s  # it came back, so it does not hang
                call.reason = one_line(reason, _REASON_CHARS)
                if call.waiting_since_s is None:
                    call.waiting_since_s = now_s

    # -- what others ask ----------------------------------------------------------------------

    def ready(self) -> Verdict:
        """Whether work should be expected of it, and every reason why not."""
        reasons = [] if self._is_warm else ["loading"]
        if self._is_draining:
            reasons.append("draining: a stop was asked for")
        reasons += self._stalls(self._config.stalled_s)
        reasons += self._waits(self._config.stalled_s)
        return not reasons, reasons

    def alive(self) -> Verdict:
        """Whether it may still recover by itself, and every reason why not.

        Loading never kills: how long that may take is for whoever started the process to say.
        """
        reasons = list(self._stalls(self._config.dead_s))
        return not reasons, reasons

    def _stalls(self, limit_s: float) -> Iterator[str]:
        now_s = self._clock()
        if self._is_warm and now_s - self._ticked_s > limit_s:
            yield f"the main loop has not turned for {now_s - self._ticked_s:.0f} s"
        for call in self._snapshot():
            if now_s - call.since_s > limit_s:
                yield f"{call.stage} has been inside one call for {now_s - call.since_s:.0f} s"

    def _waits(self, limit_s: float) -> Iterator[str]:
        now_s = self._clock()
        for call in self._snapshot():
            since_s = call.waiting_since_s
            if since_s is not None and now_s - since_s > limit_s:
                yield f"{call.stage} has waited for {now_s - since_s:.0f} s: {call.reason}"

    def _snapshot(self) -> list[_Call]:
        with self._lock:
            return list(self._calls.values())
