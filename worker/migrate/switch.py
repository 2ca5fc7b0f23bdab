"""`entityclip migrate cutover` and `rollback`: the alias moves, in one step, once nothing is lost by it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.migrate.backfill import Reencode, difference
from worker.migrate.collection import ModelCollection, Route, Row
from worker.migrate.reencode import Unencodable
from worker.migrate.roster import LiveWorker

_LOOKS = 4  # a worker may be between its two collections: what is missing is looked for again
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Gap:
    """How the target differs from the source.

    Args:
        missing: the points that it does not hold.
        outdated: how many it holds in another version.
        extra: how many it holds that are gone from the source: a worker took them down that wrote one
            collection only.
    """

    missing: tuple[Row, ...] = ()
    outdated: int = 0
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the alias may move.

    Args:
        objections: one line each; none where it may.
        without_vector: points that the target cannot hold, by reason.
    """

    objections: tuple[str, ...]
    without_vector: Counter[Unencodable] = field(default_factory=Counter)


def find_gap(
    source: ModelCollection,
    target: ModelCollection,
    pause_s: float = _PAUSE_S,
    *,
    on_points: Callable[[int], object] = lambda number: None,
) -> Gap:
    """Compare the two collections point by point; blocks for a few requests a thousand points.

    Args:
        pause_s: before what seems to be missing is looked for again.
        on_points: told how many points of either were compared, each time some were.
    """
    suspects: list[Row] = []
    for rows in source.rows():
        found = difference(rows, target)
        suspects += [row for row in rows if row.id in found.outdated] + list(found.missing)
        on_points(len(rows))
    extra: list[Row] = []
    for rows in target.rows():
        extra += difference(rows, source).missing
        on_points(len(rows))
    for _ in range(_LOOKS):
        if not suspects and not extra:
            break
        time.sleep(pause_s)
        suspects = [row for rows in _pages(suspects) for row in _still_differs(rows, source, target)]
        extra = [row for rows in _pages(extra) for row in _still_only_in(rows, target, source)]
    missing = tuple(row for rows in _pages(suspects) for row in difference(rows, target).missing)
    return Gap(missing, len(suspects) - len(missing), len(extra))


def readiness(
    route: Route,
    gap: Gap,
    workers: Callable[[], Sequence[LiveWorker]],
    reencode: Callable[[], Reencode],
    *,
    allow_missing: bool = False,
    force: bool = False,
) -> Readiness:
    """Look at everything that speaks against moving the alias.

    Args:
        workers: those that are alive; asked last, for one may start while the rest is looked at.
        reencode: loads the target's model; only called where points are missing, to see which of them it
            can encode at all.
        allow_missing: move although points are missing that the model cannot encode.
        force: move although workers write one collection only, or none is alive.
    """
    failed = _without_vector(route.source, gap.missing, reencode) if gap.missing else Counter()
    lost = len(gap.missing) - failed.total()
    objections: list[str] = []
    if lost or gap.outdated or gap.extra:
        objections.append(
            f"{lost} points are missing in {route.target.name}, {gap.outdated} are outdated and {gap.extra} "
            "are to be deleted: run `entityclip migrate backfill`"
        )
    if failed and not allow_missing:
        reasons = ", ".join(f"{number}: {reason}" for reason, number in sorted(failed.items()))
        objections.append(
            f"{failed.total()} points have no vector of that model ({reasons}): --allow-missing"
        )
    if not force:
        objections += worker_objections(route, workers())
    return Readiness(tuple(objections), failed)


def worker_objections(route: Route, workers: Sequence[LiveWorker]) -> list[str]:
    """One line a worker that does not write both collections; one where there is no worker at all."""
    needed = {route.source_model, route.target_model}
    if not workers:
        return ["no worker is alive that confirms that it writes both collections: start one, or --force"]
    return [
        f"the worker {worker.name} writes {', '.join(worker.models) or 'nothing'} only: "
        "start it anew with both models (`model` and `next_model`)"
        for worker in workers
        if not needed <= set(worker.models)
    ]


def _without_vector(
    source: ModelCollection, missing: Sequence[Row], reencode: Callable[[], Reencode]
) -> Counter[Unencodable]:
    encode = reencode()
    ids = {row.id for row in missing}
    reasons: Counter[Unencodable] = Counter()
    for rows in _pages(list({row.post_id: row for row in missing}.values())):
        points = [point for point in source.posts([row.post_id for row in rows]) if point.id in ids]
        reasons.update(encode(points).failed.values())
    return reasons


def _still_differs(rows: Sequence[Row], source: ModelCollection, target: ModelCollection) -> list[Row]:
    """Those that the source still holds and the target does not hold alike."""
    held = source.versions([row.id for row in rows])
    now = [Row(row.id, row.kind, row.post_id, held[row.id]) for row in rows if row.id in held]
    found = difference(now, target)
    return [row for row in now if row.id in found.outdated or row in found.missing]


def _still_only_in(rows: Sequence[Row], target: ModelCollection, source: ModelCollection) -> list[Row]:
    held = target.versions([row.id for row in rows])
    return [row for row in difference(rows, source).missing if row.id in held]


def _pages(rows: Sequence[Row], size: int = 128) -> list[Sequence[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
