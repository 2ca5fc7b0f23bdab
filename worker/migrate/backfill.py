"""`entityclip migrate backfill`: what stands in the served collection alone, into the next model's as well.

While it runs, workers write both collections, the served one first (`worker.stages.dual`). Nothing that a
worker wrote is lost or overwritten:

- A point is only inserted where its id is not there yet, so a newer one of a worker's stays; and a worker's
  own write replaces whatever was inserted.
- After a page is inserted it is looked whether each of its points still stands in the served collection, in
  the version that was read. If not, what was inserted goes again, provided that it is still of that version.
  A take-down deletes from the served collection first: either it came before that look, which then sees it,
  or it comes to the other collection after the insertion, and deletes that.
- A run that was killed between the two leaves points behind that may be gone from the served collection: the
  end of every run deletes what stands only in the other one.
- All of that rests on the order of the two writes, so a run ends where the alias moves. It looks after each
  comparison: a worker that still found the alias where it was has written what was compared in that order.

What is there already is skipped, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from worker.errors import FatalError
from worker.index import Point
from worker.migrate.collection import ModelCollection, Row, Version
from worker.migrate.reencode import Reencoded, Unencodable

_ROUNDS = 5  # a post that changes more often while it is copied is left to its worker
_SETTLE_S = 1.0
Reencode = Callable[[Sequence[Point]], Reencoded]


@dataclass(slots=True)
class BackfillReport:
    """What a run did.

    Args:
        present: points that were there already.
        removed: points deleted again because the served collection holds them no more, or another version.
        failed: points without a vector of the new model, by reason.
    """

    inserted: int = 0
    present: int = 0
    removed: int = 0
    failed: Counter[Unencodable] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one collection against another.

    Args:
        missing: not in the other.
        outdated: in both, in different versions; with the other's version.
        same: how many are in both, alike.
    """

    missing: tuple[Row, ...]
    outdated: Mapping[str, Version]
    same: int


class Backfill:
    """One run. One thread; blocks for as long as it takes.

    Args:
        is_served: whether the alias still names the source.
        batch: points that are encoded and inserted at once.
        on_points: told how many points were dealt with, each time some were.
    """

    def __init__(
        self,
        source: ModelCollection,
        target: ModelCollection,
        reencode: Reencode,
        is_served: Callable[[], bool],
        *,
        batch: int = 128,
        on_points: Callable[[int], object] = lambda number: None,
    ) -> None:
        self._source, self._target, self._reencode = source, target, reencode
        self._is_served = is_served
        self._batch, self._on_points = batch, on_points
        self._failed: dict[str, Unencodable] = {}
        self._inserted: set[str] = set()
        self.report = BackfillReport()

    def run(self) -> BackfillReport:
        """Copy what is missing, replace what is outdated, delete what is gone.

        Raises:
            TransientError: the store or the media store is away; run it again.
            FatalError: the store refuses, or the alias moves meanwhile.
        """
        for rows in self._source.rows():
            for start in range(0, len(rows), self._batch):
                self._check_served()
                self._copy(rows[start : start + self._batch])
        self._remove_extra()
        self.report.failed = Counter(self._failed.values())
        return self.report

    def _copy(self, rows: Sequence[Row]) -> None:
        found = difference(rows, self._target)
        self._target.delete_versions(found.outdated)
        # Points of a post that an earlier row brought along are found here too, and are not of before.
        self.report.present += found.same - sum(row.id in self._inserted for row in rows)
        posts = {row.post_id for row in rows if row.id in found.outdated}
        posts |= {row.post_id for row in found.missing if row.id not in self._failed}
        for _ in range(_ROUNDS):
            if not posts:
                break
            posts = self._copy_posts(posts)
        self._on_points(len(rows))

    def _copy_posts(self, post_ids: set[str]) -> set[str]:
        """Whole posts, for a point also says how well its own post's text and pictures agree.

        Returns:
            The posts that changed meanwhile.
        """
        points = self._source.posts(sorted(post_ids))
        reencoded = self._reencode(points)
        there = self._target.versions([point.id for point in reencoded.points])
        refused = self._target.insert(reencoded.points)
        self._failed |= {**reencoded.failed, **dict.fromkeys(refused, Unencodable.REFUSED)}
        self._inserted |= {point.id for point in reencoded.points} - set(there) - set(refused)
        self.report.inserted = len(self._inserted)
        return self._take_back_changed(reencoded.points)

    def _take_back_changed(self, points: Sequence[Point]) -> set[str]:
        inserted = {point.id: Version.of(point.payload) for point in points}
        now = self._source.versions(list(inserted))
        if not self._is_served():  # a worker may have deleted from the target and not yet from the source
            time.sleep(_SETTLE_S)
            now = self._source.versions(list(inserted))
        gone = {id_: version for id_, version in inserted.items() if now.get(id_) != version}
        self._target.delete_versions(gone)
        self.report.removed += len(gone)
        return {str(point.payload.get("post_id")) for point in points if point.id in gone.keys() & now.keys()}

    def _remove_extra(self) -> None:
        """Delete from the target what the source, which is written first, does not hold."""
        for rows in self._target.rows():
            extra = {row.id: row.version for row in difference(rows, self._source).missing}
            self._check_served()
            self._target.delete_versions(extra)
            self.report.removed += len(extra)

    def _check_served(self) -> None:
        if not self._is_served():
            raise FatalError(
                "the alias moved while the backfill ran, which has stopped: "
                "`entityclip migrate plan` says where things stand"
            )


def difference(rows: Sequence[Row], other: ModelCollection) -> Difference:
    """What of these rows another collection lacks."""
    versions = other.versions([row.id for row in rows])
    missing = tuple(row for row in rows if row.id not in versions)
    outdated = {
        row.id: versions[row.id] for row in rows if row.id in versions and versions[row.id] != row.version
    }
    return Difference(missing, outdated, len(rows) - len(missing) - len(outdated))
