"""A real embedded store with a few posts in it, encoded with a real model but written without a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from worker.ids import image_point_id, text_point_id
from worker.index import Point, VectorIndex
from worker.media import MediaStore
from worker.store.client import open_store

if TYPE_CHECKING:
    from model.serving.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Stored:
    """A post with one picture, or one text, or both.

    Args:
        seed: of the picture's noise.
    """

    id: str
    text: str = ""
    seed: int | None = None
    published_at: datetime | None = None
    explanation: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)


def png(path: Path, seed: int) -> Path:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(folder: Path, checkpoint: Path, posts: Sequence[Stored], alias: str = "entityclip") -> None:
    """Write the posts to `folder/store`, their thumbnails to `folder/store/media`, pictures to `folder`."""
    from model.checkpoint import load
    from model.serving.encoder import Encoder

    model = load(checkpoint)
    encoder = Encoder.of(model)
    with open_store(str(folder / "store")) as store:
        index = VectorIndex(store, alias, model.model_id, encoder.dim)
        index.open_or_create()
        points = [point for post in posts for point in _points(post, encoder, model.model_id, folder)]
        index.upsert(points)


def _points(post: Stored, encoder: Encoder, model_id: str, folder: Path) -> list[Point]:
    from model.pictures.decode import ImageLimits, decode, resize_for_model, thumbnail

    common: dict[str, object] = {
        "post_id": post.id,
        "text": post.text,
        "explanation": post.explanation,
        "published_at": post.published_at,
        "model_id": model_id,
        **post.fields,
    }
    points = []
    if post.seed is not None:
        data = png(folder / f"{post.seed}.png", post.seed).read_bytes()
        image = decode(data, target=256, limits=ImageLimits())
        pixels = resize_for_model(image, encoder.image_size, "center-crop")
        content = hashlib.sha256(data).hexdigest()
        MediaStore(folder / "store" / "media").put(content, thumbnail(image))
        payload = {"kind": "image", "image_id": "0", "content_hash": content}
        vector = encoder.encode_images(np.stack([pixels]))[0]
        points.append(Point(image_point_id(post.id, "0"), {"image": vector}, common | payload))
    if post.text:
        content = hashlib.sha256(post.text.encode()).hexdigest()
        window: dict[str, object] = {"kind": "text", "window": 0, "content_hash": content}
        vector = encoder.encode_texts([post.text], [post.explanation])[0]
        points.append(Point(text_point_id(post.id, 0), {"text": vector}, common | window))
    return points
