"""When the embedded store has search graphs built: often enough, and not again right after a failure."""

from __future__ import annotations

import logging
import time
from weakref import WeakKeyDictionary

from worker.store.collection import Collection
from worker.store.graphs import BuildFailed
from worker.store.shard import Stopped

OPTIMIZE_AFTER = 20_000  # points outside a search graph; an exact scan of so many takes a few milliseconds
_OVERDUE = 4  # times as many are not left to wait for a quiet moment
_QUIET_S = 2.0
_RETRY_S, _LONGEST_RETRY_S = 60.0, 3600.0
_log = logging.getLogger(__name__)


class Upkeep:
    """Builds the graphs of the collections that are due. For one thread at a time."""

    def __init__(self, optimize_after: int = OPTIMIZE_AFTER) -> None:
        self._optimize_after = optimize_after
        # of a collection: how many in a row, and when to try again
        self._failures: WeakKeyDictionary[Collection, tuple[int, float]] = WeakKeyDictionary()

    def run(self, collection: Collection, idle_s: float) -> None:
        """Build if that is due; blocks as long as it takes.

        Args:
            idle_s: for how long nothing was asked of the store.

        Raises:
            EngineError: the collection was deleted meanwhile; where `while_writing`, the process must end.
        """
        failures, not_before = self._failures.get(collection, (0, 0.0))
        if time.monotonic() < not_before:
            return
        try:
            optimize_when_due(collection, self._optimize_after * (1 if idle_s >= _QUIET_S else _OVERDUE))
            self._failures.pop(collection, None)
        except Stopped:
            return  # the store is closing, or the collection was deleted
        except BuildFailed as problem:
            pause_s = min(_RETRY_S * 2**failures, _LONGEST_RETRY_S)
            self._failures[collection] = failures + 1, time.monotonic() + pause_s
            _log.warning("no search graphs built, next try in %.0f s: %s", pause_s, problem)


def optimize_when_due(collection: Collection, due: int) -> bool:
    """Build the search graphs if at least `due` points are in none; whether that was done.

    Blocks for minutes; the collection is served meanwhile.

    Raises:
        Stopped, BuildFailed: no more points are in graphs than before.
    """
    if collection.unoptimized() < due:
        return False
    collection.build_graphs()
    after = collection.info()
    _log.info("%d of %d points are in search graphs", after.indexed_vectors_count, after.points_count)
    if collection.unoptimized() >= due:
        raise BuildFailed("the engine found nothing that is worth a graph")
    return True
