"""What an explanation that came late changes in the store, and the pairs that are found by it.

A model that reads texts alone has its payloads changed, no more. One that reads a text with its explanation
gets new text vectors, and with those there may be pairs that were not there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.index import Point, VectorIndex
from worker.stages.emit import MatchSink, match_message
from worker.stages.points import own_cosines
from worker.transport.base import Partition, Record
from worker.types import Encoded, Explanation, Match, Post, Prepared

Vectors = NDArray[np.float32]
_RENEWED = ("explanation", "own_cosine")
_NO_RECORD = Record(Partition("", 0), 0, None, None)  # a stored post has none


@dataclass(frozen=True, slots=True)
class Explained:
    """A post whose explanation has come.

    Args:
        post: as far as the store holds it.
        points: those to be changed, as they were when the explanation was asked for.
    """

    post: Post
    points: tuple[Point, ...]
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was done.

    Args:
        points: whose payload was written.
        matches: that were emitted.
        without_vector: posts left as they are, because the model gave no vector for a text.
    """

    points: int = 0
    matches: int = 0
    without_vector: int = 0


class Rewrite(Protocol):
    """Brings the store to what explained posts say. One thread at a time; may block for store and sink."""

    def __call__(self, posts: Sequence[Explained]) -> Rewritten:
        """Write; TransientError where it may be tried again, with nothing lost."""


class PayloadRewrite:
    """For a model that does not read explanations: no vector changes, no pair is found."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def __call__(self, posts: Sequence[Explained]) -> Rewritten:
        """Write explanation and status."""
        for post in posts:
            fields = {"explanation": post.explanation.text, **_status(post)}
            for point in post.points:
                self._index.update(point.id, {}, fields, content_hash=_hash(point))
        return Rewritten(sum(len(post.points) for post in posts))


class VectorRewrite:
    """For a model that reads a text with its explanation behind it.

    New vectors are written before they are searched with, as a worker does, so that of two posts handled at
    the same moment one sees the other. The status, by which a run finds what is to be done, is written last:
    a run that was killed before it finds the post again, and what it had emitted is known to the sink.

    Only the texts are searched with. The vectors of a post's pictures have not changed, so a search with
    them would find the pairs that were found when the post came, and the texts of others that change are
    searched with themselves.

    Args:
        encode: texts and their explanations to [B, D]; a NaN row where there is no vector. A window
            that filled the model's context alone is cut, to half of it at least, for the explanation.
        match: the matches of each post, as `Matcher.match`.
        emit: writes the matches that were not written before and returns how many; None writes none.
    """

    def __init__(
        self,
        index: VectorIndex,
        encode: Callable[[Sequence[str], Sequence[str]], Vectors],
        match: Callable[[Sequence[Encoded]], Sequence[Sequence[Match]]],
        emit: Callable[[Sequence[Match]], int] | None,
    ) -> None:
        self._index, self._encode, self._match, self._emit = index, encode, match, emit

    def __call__(self, posts: Sequence[Explained]) -> Rewritten:
        """Write vectors and explanations, emit what is found, write the status."""
        current = self._current(posts)
        new = self._encoded(current)
        able = [post for post in new if _has_vectors(post)]
        for post in able:
            self._store(post)
        matches = 0
        if self._emit is not None:
            matches = self._emit(self._found(able))
        for post in able:
            for point in post.points:
                self._index.update(point.id, {}, _status(post), content_hash=_hash(point))
        return Rewritten(sum(len(post.points) for post in able), matches, len(new) - len(able))

    def _current(self, posts: Sequence[Explained]) -> list[Explained]:
        """The posts with their points as they are now, without those that have changed since."""
        asked = [point.id for post in posts for point in post.points]
        stored = {point.id: point for point in self._index.get(asked, with_vectors=True)}
        return [
            replace(post, points=tuple(stored[point.id] for point in post.points if _is_same(point, stored)))
            for post in posts
        ]

    def _encoded(self, posts: Sequence[Explained]) -> list[Explained]:
        """The posts with new text vectors, where there is an explanation to be read."""
        texts = [(point, post) for post in posts if post.explanation.text for point in _texts(post.points)]
        renewed: dict[str, Vectors] = {}
        if texts:
            windows = [str(point.payload.get("text") or "") for point, _ in texts]
            vectors = self._encode(windows, [post.explanation.text for _, post in texts])
            renewed = {point.id: vector for (point, _), vector in zip(texts, vectors, strict=True)}
        return [replace(post, points=_renewed(post, renewed)) for post in posts]

    def _store(self, post: Explained) -> None:
        for point in post.points:
            vectors = point.vectors if post.explanation.text and _is_text(point) else {}
            fields = {name: point.payload[name] for name in _RENEWED if name in point.payload}
            self._index.update(point.id, vectors, fields, content_hash=_hash(point))

    def _found(self, posts: Sequence[Explained]) -> list[Match]:
        """The matches of the posts' texts, as far as these still stand in the store."""
        explained = [post for post in posts if post.explanation.text]
        ids = [point.id for post in explained for point in post.points]
        stored = {point.id: point for point in self._index.get(ids)}
        asked = [
            _as_encoded(post, [point for point in _texts(post.points) if _is_same(point, stored)])
            for post in explained
        ]
        return [match for matches in self._match(asked) for match in matches]


class NewMatches:
    """Writes the matches that the sink does not know yet. One thread at a time.

    Args:
        limit_bytes: of one message; None for no limit.
    """

    def __init__(self, sink: MatchSink, limit_bytes: int | None = None) -> None:
        self._sink, self._limit_bytes = sink, limit_bytes

    def __call__(self, matches: Sequence[Match]) -> int:
        """Write and return how many; blocks until they are acknowledged.

        Raises:
            TransientError: nothing was remembered as written.
        """
        messages = {
            message.key: message for message in (match_message(m, (), self._limit_bytes) for m in matches)
        }
        known = self._sink.known(list(messages))
        fresh = [message for key, message in messages.items() if key not in known]
        if fresh:
            self._sink.write(fresh)
        return len(fresh)


def _status(post: Explained) -> dict[str, object]:
    return {"explanation_status": post.explanation.status.value}


def _hash(point: Point) -> str:
    return str(point.payload.get("content_hash", ""))


def _is_same(point: Point, stored: dict[str, Point]) -> bool:
    """Whether a point is still there with the content and the status that it had."""
    now = stored.get(point.id)
    names = ("content_hash", "explanation_status")
    return now is not None and all(now.payload.get(name) == point.payload.get(name) for name in names)


def _is_text(point: Point) -> bool:
    return "text" in point.vectors


def _texts(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if _is_text(point)]


def _renewed(post: Explained, vectors: dict[str, Vectors]) -> tuple[Point, ...]:
    """The post's points as they are to be stored, but for their status."""
    points = [
        replace(point, vectors={"text": vectors[point.id]}) if point.id in vectors else point
        for point in post.points
    ]
    own = _own_fields(points)
    fields: dict[str, object] = {"explanation": post.explanation.text}
    return tuple(
        replace(point, payload={**point.payload, **fields, **own.get(point.id, {})}) for point in points
    )


def _has_vectors(post: Explained) -> bool:
    return all(np.isfinite(vector).all() for point in post.points for vector in point.vectors.values())


def _own_fields(points: Sequence[Point]) -> dict[str, dict[str, object]]:
    """What is stored of how well each point fits its post's own of the other kind, by point id."""
    texts, images = _texts(points), [point for point in points if "image" in point.vectors]
    cosines = own_cosines([p.vectors["image"] for p in images], [p.vectors["text"] for p in texts])
    return {
        point.id: {} if cosine is None else {"own_cosine": cosine}
        for point, cosine in zip([*images, *texts], [*cosines[0], *cosines[1]], strict=True)
    }


def _as_encoded(post: Explained, texts: Sequence[Point]) -> Encoded:
    """A stored post as the matcher takes it."""
    windows = tuple(str(point.payload.get("text") or "") for point in texts)
    return Encoded(Prepared(_NO_RECORD, post.post, (), windows, post.explanation), tuple(texts))
