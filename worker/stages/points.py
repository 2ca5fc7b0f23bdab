"""The points of a post: what stands in the store for each image and each text window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from worker.ids import image_point_id, text_point_id
from worker.index import Point
from worker.types import Prepared, PreparedImage, Vector


def post_points(
    prepared: Prepared, image_vectors: Sequence[Vector], text_vectors: Sequence[Vector], model_id: str
) -> tuple[Point, ...]:
    """Build a post's points.

    Args:
        image_vectors: one [D] an image, in the order of `prepared.images`.
        text_vectors: one [D] a window, in the order of `prepared.windows`.
    """
    common = _common(prepared, model_id)
    images = [
        Point(
            image_point_id(prepared.post.id, image.id),
            {"image": vector},
            common | _image_fields(prepared, image),
        )
        for image, vector in zip(prepared.images, image_vectors, strict=True)
    ]
    texts = [
        Point(
            text_point_id(prepared.post.id, window),
            {"text": vector},
            common | _text_fields(window, text),
        )
        for window, (text, vector) in enumerate(zip(prepared.windows, text_vectors, strict=True))
    ]
    return (*images, *texts)


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
