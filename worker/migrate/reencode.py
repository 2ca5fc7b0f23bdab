"""Stored posts by another model: texts from the payload, pictures from the media store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from model.pictures.decode import ImageError, ResizeMode, decode_picture
from worker.index import Point
from worker.media import MediaStore
from worker.stages.encode import ScalarEncoder
from worker.stages.points import own_cosines
from worker.types import Pixels, Vector

if TYPE_CHECKING:
    from model.serving.encoder import Encoder

_CHUNK = 64  # pictures decoded at once
_OF_THE_MODEL = ("itm", "own_cosine")  # payload fields that only the model that wrote them can read


class Unencodable(StrEnum):
    """Why a stored point gets no vector of the other model."""

    NO_MEDIA_STORE = "no media store is configured"
    NOT_KEPT = "the picture is not in the media store"
    UNREADABLE = "the kept picture cannot be read"
    NO_VECTOR = "the model gives no vector"
    REFUSED = "the store refuses the point"


@dataclass(frozen=True, slots=True)
class Reencoded:
    """What became of some points.

    Args:
        points: with vectors of the model, otherwise as they were.
        failed: the reasons of the others, by id.
    """

    points: tuple[Point, ...]
    failed: Mapping[str, Unencodable]


class Reencoder:
    """Encodes stored points. One thread at a time; blocks as long as the model computes.

    Args:
        media: where the pictures are; None for nowhere.
        head: gives the pictures' points the scalars of the matching head, as a worker's have them; None
            where pairs are not scored by it.
    """

    def __init__(
        self,
        encoder: Encoder,
        model_id: str,
        resize_mode: ResizeMode,
        media: MediaStore | None,
        *,
        head: ScalarEncoder | None = None,
    ) -> None:
        self._encoder, self._model_id, self._media = encoder, model_id, media
        self._resize_mode: ResizeMode = resize_mode
        self._head = head

    def __call__(self, points: Sequence[Point]) -> Reencoded:
        """Encode points of any kind; those of one post together, for each also holds its own pair's cosine.

        Raises:
            TransientError: the media store is away.
        """
        texts = [point for point in points if point.payload.get("kind") == "text"]
        pictures = [point for point in points if point.payload.get("kind") == "image"]
        failed: dict[str, Unencodable] = {}
        vectors = self._texts(texts)
        scalars: dict[str, Vector] = {}
        for start in range(0, len(pictures), _CHUNK):
            self._pictures(pictures[start : start + _CHUNK], vectors, scalars, failed)
        for id_, numbers in (*vectors.items(), *scalars.items()):
            if not np.isfinite(numbers).all():
                failed[id_] = Unencodable.NO_VECTOR
        made = [point for point in points if point.id in vectors and point.id not in failed]
        return Reencoded(self._points(made, vectors, scalars), failed)

    @property
    def image_size(self) -> int:
        """Side of the model's input, pixels."""
        return self._encoder.image_size

    def cut(self, points: Sequence[Point]) -> int:
        """How many of the texts this model reads only in part."""
        return sum(
            not self._encoder.fits(*_text(point)) for point in points if point.payload.get("kind") == "text"
        )

    def _texts(self, points: Sequence[Point]) -> dict[str, Vector]:
        if not points:
            return {}
        rows = [_text(point) for point in points]
        vectors = self._encoder.encode_texts([row[0] for row in rows], [row[1] for row in rows])
        return dict(zip((point.id for point in points), vectors, strict=True))

    def _pictures(
        self,
        points: Sequence[Point],
        vectors: dict[str, Vector],
        scalars: dict[str, Vector],
        failed: dict[str, Unencodable],
    ) -> None:
        pixels: dict[str, Pixels] = {}
        for point in points:
            found = self._picture(str(point.payload.get("content_hash", "")))
            if isinstance(found, Unencodable):
                failed[point.id] = found
            else:
                pixels[point.id] = found
        if not pixels:
            return
        batch = np.stack(list(pixels.values()))
        if self._head is None:
            rows = self._encoder.encode_images(batch)
        else:
            rows, own_scalars = self._head.encode_with_scalars(batch)
            scalars |= zip(pixels, own_scalars, strict=True)
        vectors |= zip(pixels, rows, strict=True)

    def _picture(self, content_hash: str) -> Pixels | Unencodable:
        if self._media is None:
            return Unencodable.NO_MEDIA_STORE
        try:
            jpeg = self._media.get(content_hash)
        except ValueError:  # a store that others filled may hold any hash
            return Unencodable.NOT_KEPT
        if jpeg is None:
            return Unencodable.NOT_KEPT
        try:
            picture = decode_picture(jpeg, target=self._encoder.image_size)
        except ImageError:
            return Unencodable.UNREADABLE
        return picture.for_model(self._encoder.image_size, self._resize_mode)

    def _points(
        self, points: Sequence[Point], vectors: Mapping[str, Vector], scalars: Mapping[str, Vector]
    ) -> tuple[Point, ...]:
        own = _own_cosines(points, vectors)
        made = []
        for point in points:
            payload = {key: value for key, value in point.payload.items() if key not in _OF_THE_MODEL}
            payload["model_id"] = self._model_id
            if own.get(point.id) is not None:
                payload["own_cosine"] = own[point.id]
            if point.id in scalars:
                payload["itm"] = scalars[point.id].tolist()
            name = "image" if payload.get("kind") == "image" else "text"
            made.append(replace(point, vectors={name: vectors[point.id]}, payload=payload))
        return tuple(made)


def _own_cosines(points: Sequence[Point], vectors: Mapping[str, Vector]) -> dict[str, float | None]:
    """Of each point, within its own post."""
    posts: dict[object, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for point in points:
        posts[point.payload.get("post_id")][point.payload.get("kind") == "text"].append(point.id)
    own: dict[str, float | None] = {}
    for images, texts in posts.values():
        cosines = own_cosines([vectors[id_] for id_ in images], [vectors[id_] for id_ in texts])
        own |= zip((*images, *texts), (*cosines[0], *cosines[1]), strict=True)
    return own


def _text(point: Point) -> tuple[str, str]:
    return str(point.payload.get("text") or ""), str(point.payload.get("explanation") or "")
