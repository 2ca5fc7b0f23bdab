"""`entityclip enrich`: explain posts later that went by without an explanation.

Many posts are asked about at once; what is explained is written in batches (`worker.upkeep.rewriting`), for a
model may have to encode them anew. What is written is no longer looked for, so a run that was stopped goes on
where it was.

The text that is explained is that of the post's first window, which is what the store holds of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Protocol

from worker.errors import TransientError, WorkerError
from worker.index import Point, VectorIndex, Where
from worker.media import MediaStore
from worker.types import Explanation, ExplanationStatus, Post
from worker.upkeep.rewriting import Explained, Rewrite

_BATCH = 32  # posts that are written at once, at most
_FAILURES = 50  # posts one after the other that the LLM failed for: it is away
_WRITTEN = {ExplanationStatus.GENERATED, ExplanationStatus.UNKNOWN}


class PostExplainer(Protocol):
    """What `worker.explain.explainer.Explainer` does."""

    async def explain(self, post: Post, image: bytes | None = None) -> Explanation:
        """Explain a post; raises nothing but CancelledError."""


class Enrichment:
    """One run over an index. Lives on one event loop; the store is asked from threads.

    Args:
        index: open for writing or reading through an alias that names this model's collection.
        statuses: of the points that are explained.
        rewrite: what brings the store to what was explained.
        media: where pictures are, for an explainer that looks at them.
        on_points: told how many points were dealt with, each time some were.

    `counts` holds the posts by what became of them: `generated`, `unknown`, `failed` or `none`; and the
    fields of `Rewritten`.
    """

    def __init__(
        self,
        index: VectorIndex,
        explainer: PostExplainer,
        statuses: Sequence[ExplanationStatus],
        rewrite: Rewrite,
        *,
        media: MediaStore | None = None,
        on_points: Callable[[int], object] = lambda number: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._index = index
        self._explainer = explainer
        self._statuses = tuple(statuses)
        self._rewrite = rewrite
        self._explained: asyncio.Queue[Explained | None] = asyncio.Queue(2 * _BATCH)
        self._media = media
        self._on_points = on_points
        self._failures = 0

    async def run(self, *, limit: int | None = None, concurrency: int = 32) -> None:
        """Explain what is to be explained, so many posts at once; once.

        Args:
            limit: posts at most.

        Raises:
            TransientError: the store is away, or the LLM fails for every post; run it again.
            FatalError: the store refuses.
        """
        failure: WorkerError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write_all())
                failure = await self._explain_all(limit, concurrency)
                await self._explained.put(None)  # what was explained before a failure is written too
        except* WorkerError as errors:
            failure = _first(errors)
        if failure is not None:
            raise failure

    async def _explain_all(self, limit: int | None, concurrency: int) -> WorkerError | None:
        """Ask about every post; the error that ended it, if one did."""
        posts = waiting_posts(self._index, self._statuses, limit)
        turn = asyncio.Lock()
        failure: WorkerError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work(posts, turn))
        except* WorkerError as errors:
            failure = _first(errors)
        return failure

    async def _work(self, posts: Iterator[str], turn: asyncio.Lock) -> None:
        while True:
            async with turn:  # a generator takes one caller at a time
                post_id = await asyncio.to_thread(next, posts, None)
            if post_id is None:
                return
            await self._explain(post_id)

    async def _explain(self, post_id: str) -> None:
        points = await asyncio.to_thread(lambda: list(self._index.scroll(Where(post_id=post_id))))
        waiting = [point for point in points if point.payload.get("explanation_status") in self._statuses]
        if not waiting:
            return  # deleted, or explained by a worker meanwhile
        post = stored_post(points)
        explanation = _begun(waiting) or await self._explainer.explain(post, await self._picture(points))
        self._note(explanation.status)
        if explanation.status in _WRITTEN:
            await self._explained.put(Explained(post, _unfinished(points, waiting, explanation), explanation))
        else:
            self._on_points(len(waiting))

    def _note(self, status: ExplanationStatus) -> None:
        self.counts[status.value] += 1
        self._failures = self._failures + 1 if status is ExplanationStatus.FAILED else 0
        if self._failures >= _FAILURES:
            raise TransientError(f"the LLM failed for {self._failures} posts one after the other")

    async def _write_all(self) -> None:
        while batch := await self._next_batch():
            done = await asyncio.to_thread(self._rewrite, batch)
            self.counts.update(asdict(done))
            self._on_points(sum(len(post.points) for post in batch))

    async def _next_batch(self) -> list[Explained]:
        """Those that wait, at least one; none at the end."""
        batch: list[Explained] = []
        while len(batch) < _BATCH and not (batch and self._explained.empty()):
            post = await self._explained.get()
            if post is None:
                if batch:
                    self._explained.put_nowait(None)  # for the next call
                break
            batch.append(post)
        return batch

    async def _picture(self, points: Sequence[Point]) -> bytes | None:
        hashes = [point.payload.get("content_hash") for point in points if _is_image(point)]
        if self._media is None or not hashes:
            return None
        try:
            return await asyncio.to_thread(self._media.get, str(hashes[0]))
        except ValueError:  # a store that others filled may hold any hash
            return None


def _begun(waiting: Sequence[Point]) -> Explanation | None:
    """The explanation that a run wrote which was killed before it wrote the status."""
    texts = (str(point.payload.get("explanation") or "") for point in waiting)
    text = next(filter(None, texts), None)
    return None if text is None else Explanation(text, ExplanationStatus.GENERATED)


def _unfinished(
    points: Sequence[Point], waiting: Sequence[Point], explanation: Explanation
) -> tuple[Point, ...]:
    """Those that wait, and those that a killed run had finished: how well they fit is measured together."""
    finished = explanation.status.value, explanation.text
    return tuple(
        point
        for point in points
        if point in waiting or (_text(point, "explanation_status"), _text(point, "explanation")) == finished
    )


def waiting_posts(
    index: VectorIndex, statuses: Sequence[ExplanationStatus], limit: int | None = None
) -> Iterator[str]:
    """The ids of the posts with a point of these statuses, each once; keeps them in memory."""
    seen: set[str] = set()
    for point in index.scroll(waiting(statuses)):
        if limit is not None and len(seen) >= limit:
            return
        post_id = str(point.payload.get("post_id", ""))
        if post_id not in seen:
            seen.add(post_id)
            yield post_id


def waiting(statuses: Sequence[ExplanationStatus]) -> Where:
    """Which points are to be explained."""
    return Where(explanation_statuses=tuple(status.value for status in statuses))


def stored_post(points: Sequence[Point]) -> Post:
    """A post as far as its points hold it.

    Args:
        points: of one post, at least one.
    """
    first = min(points, key=lambda point: (_is_image(point), _number(point)))
    fields = first.payload
    entities = fields.get("entities")
    published_at = fields.get("published_at")
    return Post(
        id=str(fields.get("post_id", "")),
        text=str(fields.get("text") or ""),
        published_at=None if published_at is None else datetime.fromisoformat(str(published_at)),
        source=_text(first, "source"),
        lang=_text(first, "lang"),
        entities=tuple(map(str, entities)) if isinstance(entities, list | tuple) else (),
        url=_text(first, "url"),
    )


def _is_image(point: Point) -> bool:
    return point.payload.get("kind") == "image"


def _number(point: Point) -> int:
    window = point.payload.get("window")
    return window if isinstance(window, int) else 0


def _text(point: Point, name: str) -> str | None:
    value = point.payload.get(name)
    return None if value is None else str(value)


def _first(group: ExceptionGroup[WorkerError]) -> WorkerError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
