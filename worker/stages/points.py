"""The points of a post: what stands in the store for each image and each text window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from worker.ids import image_point_id, text_point_id
from worker.index import Point
from worker.types import Prepared, PreparedImage, Vector


def post_points(
    prepared: Prepared,
    image_vectors: Sequence[Vector],
    text_vectors: Sequence[Vector],
    model_id: str,
    *,
    image_scalars: Sequence[Vector] | None = None,
) -> tuple[Point, ...]:
    """Build a post's points.

    Args:
        image_vectors: one [D] an image, in the order of `prepared.images`.
        text_vectors: one [D] a window, in the order of `prepared.windows`.
        image_scalars: one an image, as `model.matching_head` gives them; None without the matching head.
    """
    common = _common(prepared, model_id)
    own_images, own_texts = map(_own_fields, own_cosines(image_vectors, text_vectors))
    scalars = [
        {} if image_scalars is None else {"itm": image_scalars[n].tolist()} for n in range(len(image_vectors))
    ]
    images = [
        Point(
            image_point_id(prepared.post.id, image.id),
            {"image": vector},
            common | _image_fields(prepared, image) | own | head,
        )
        for image, vector, own, head in zip(prepared.images, image_vectors, own_images, scalars, strict=True)
    ]
    texts = [
        Point(
            text_point_id(prepared.post.id, window),
            {"text": vector},
            common | _text_fields(window, text) | own,
        )
        for window, (text, vector, own) in enumerate(
            zip(prepared.windows, text_vectors, own_texts, strict=True)
        )
    ]
    return (*images, *texts)


def own_cosines(
    image_vectors: Sequence[Vector], text_vectors: Sequence[Vector]
) -> tuple[list[float | None], list[float | None]]:
    """How well each of a post's pictures and text windows fits what else the post shows.

    Args:
        image_vectors, text_vectors: [D] each, of one post, of any length but 0.

    Returns:
        For each picture the best cosine with the post's windows, for each window the best that any of them
        has with a picture; None where the post has only one kind.
    """
    if not len(image_vectors) or not len(text_vectors):
        return [None] * len(image_vectors), [None] * len(text_vectors)
    best = (_unit(image_vectors) @ _unit(text_vectors).T).max(axis=1)  # [I]
    # A window that goes on about something else does not take its text out of context.
    return best.tolist(), [float(best.max())] * len(text_vectors)


def _unit(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    rows = np.stack(vectors)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _own_fields(cosines: Sequence[float | None]) -> list[dict[str, object]]:
    return [{} if cosine is None else {"own_cosine": cosine} for cosine in cosines]


def _common(prepared: Prepared, model_id: str) -> dict[str, object]:
    post = prepared.post
    return {
        "post_id": post.id,
        "explanation": prepared.explanation.text,
        "explanation_status": prepared.explanation.status.value,
        "entities": list(post.entities),
        "source": post.source,
        "lang": post.lang,
        "published_at": post.published_at,
        "indexed_at": datetime.now(UTC).isoformat(),
        "url": post.url,
        "model_id": model_id,
        "extra": dict(post.extra),
    }


def _image_fields(prepared: Prepared, image: PreparedImage) -> dict[str, object]:
    # The first window, not the whole text: a payload stays small however long the post is.
    text = prepared.windows[0] if prepared.windows else ""
    return {"kind": "image", "image_id": image.id, "text": text, "content_hash": image.content_hash}


def _text_fields(window: int, text: str) -> dict[str, object]:
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    return {"kind": "text", "window": window, "text": text, "content_hash": content_hash}
