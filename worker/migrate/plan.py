"""`entityclip migrate plan`: what a change of the model would take. Reads only."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from worker.index import Point
from worker.media import MediaStore
from worker.migrate.backfill import difference
from worker.migrate.collection import Route
from worker.migrate.reencode import Reencoder
from worker.migrate.roster import LiveWorker

_FLOAT_BYTES = 4
_POINT_BYTES = 1000  # payload and indexes of a point, about; texts are a few hundred characters


@dataclass(frozen=True, slots=True)
class Sample:
    """What re-encoding a few posts showed.

    Args:
        points: that were tried.
        seconds: that it took, the first batch left out.
        failed: those without a vector, by reason.
        cut: texts that the new model reads only in part.
        small: pictures whose kept copy has a shorter side below the new model's input.
        pictures: that were found.
    """

    points: int
    seconds: float
    failed: Counter[str]
    cut: int
    small: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands where, and what is left to do.

    Args:
        source_dim, target_dim: of the vectors.
        source, target: points by kind; the target's are empty while there is no such collection.
        missing: points of the source that the target lacks or holds in another version.
        sample: None where there is nothing to encode.
    """

    source_model: str
    target_model: str
    source_dim: int
    target_dim: int
    source: dict[str, int]
    target: dict[str, int]
    missing: int
    workers: tuple[LiveWorker, ...]
    sample: Sample | None

    @property
    def seconds(self) -> float | None:
        """About how long the backfill takes."""
        if self.sample is None or not self.sample.points:
            return None
        return self.missing * self.sample.seconds / self.sample.points

    @property
    def bytes(self) -> int:
        """About how much the target's collection takes once it is full, without search graphs."""
        return sum(self.source.values()) * (self.target_dim * _FLOAT_BYTES + _POINT_BYTES)


def make_plan(
    route: Route, workers: Sequence[LiveWorker], reencode: Reencoder, media: MediaStore | None, *, sample: int
) -> Plan:
    """Look at both collections and try the new model on a few posts.

    Args:
        sample: points to try, about.
    """
    exists = route.target.exists()
    missing = 0
    posts: list[str] = []
    for rows in route.source.rows():
        if exists:
            found = difference(rows, route.target)
            lacking = [row for row in rows if row.id in found.outdated] + list(found.missing)
        else:
            lacking = rows
        missing += len(lacking)
        posts += [row.post_id for row in lacking[: max(0, sample - len(posts))]]
    return Plan(
        route.source_model,
        route.target_model,
        route.source.dim,
        route.target.dim,
        route.source.counts(),
        route.target.counts() if exists else {"image": 0, "text": 0},
        missing,
        tuple(workers),
        _try(route.source.posts(sorted(set(posts)))[: 2 * sample], reencode, media) if posts else None,
    )


def _try(points: Sequence[Point], reencode: Reencoder, media: MediaStore | None) -> Sample:
    reencode(points[:1])  # the first call pays for what later ones find ready
    begun = time.perf_counter()
    result = reencode(points)
    seconds = time.perf_counter() - begun
    sides = [side for point in points if (side := _shorter_side(point, media)) is not None]
    return Sample(
        len(points),
        seconds,
        Counter(reason.value for reason in result.failed.values()),
        reencode.cut(points),
        sum(side < reencode.image_size for side in sides),
        len(sides),
    )


def _shorter_side(point: Point, media: MediaStore | None) -> int | None:
    if media is None or point.payload.get("kind") != "image":
        return None
    try:
        jpeg = media.get(str(point.payload.get("content_hash", "")))
        with Image.open(io.BytesIO(jpeg or b"")) as picture:
            return min(picture.size)
    except (OSError, ValueError):  # not kept, or not readable: the sample's reasons say so
        return None
