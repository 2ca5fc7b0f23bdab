"""Stored posts by another model, with an encoder of the test's own and a real media store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.pictures.decode import thumbnail
from worker.index import Point
from worker.media import MediaStore
from worker.migrate.reencode import Reencoder, Unencodable

KEPT, BROKEN, GONE = "a" * 64, "b" * 64, "c" * 64


class TwoWays:
    """Vectors of two numbers: pictures by how bright they are, texts by whether they say `dark`."""

    image_size = 8

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert pixels.shape[1:] == (8, 8, 3)
        return np.stack([[1.0, 0.0] if picture.mean() > 127 else [0.0, 1.0] for picture in pixels]).astype(
            np.float32
        )

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> NDArray[np.float32]:
        rows = {"dark": [0.0, 1.0], "nothing": [np.nan, np.nan]}
        return np.array([rows.get(text, [1.0, 0.0]) for text in texts], np.float32)

    def encode_with_scalars(
        self, pixels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.encode_images(pixels), np.full((len(pixels), 3), 0.5, np.float32)

    def fits(self, text: str, explanation: str) -> bool:
        return len(text) + len(explanation) < 20


@pytest.fixture
def media(tmp_path: Path) -> MediaStore:
    store = MediaStore(tmp_path)
    store.put(KEPT, thumbnail(Image.new("RGB", (30, 20), "white")))
    store.put(BROKEN, b"no picture")
    return store


def reencoder(media: MediaStore | None) -> Reencoder:
    encoder: Any = TwoWays()
    return Reencoder(encoder, "next", "center-crop", media)


def text(text: str, post: str = "p") -> Point:
    payload = {"post_id": post, "kind": "text", "text": text, "explanation": "", "model_id": "old"}
    return Point(f"{post}-{text}", {}, payload)


def image(content_hash: str, post: str = "p") -> Point:
    payload = {"post_id": post, "kind": "image", "content_hash": content_hash, "model_id": "old"}
    return Point(f"{post}-{content_hash[0]}", {}, payload | {"itm": [1.0], "own_cosine": 0.5})


def test_the_payload_stays_but_for_what_belongs_to_the_old_model(media: MediaStore) -> None:
    made = reencoder(media)([image(KEPT)]).points[0]
    assert made.payload == {
        "post_id": "p",
        "kind": "image",
        "content_hash": KEPT,
        "model_id": "next",
    }
    assert made.vectors["image"].tolist() == [1.0, 0.0]


def test_where_pairs_are_scored_by_the_matching_head_pictures_carry_its_scalars(media: MediaStore) -> None:
    encoder: Any = TwoWays()
    made = Reencoder(encoder, "next", "center-crop", media, head=encoder)([image(KEPT), text("dark")]).points
    assert [point.payload.get("itm") for point in made] == [[0.5, 0.5, 0.5], None]


def test_each_point_knows_its_best_cosine_within_its_own_post(media: MediaStore) -> None:
    asked = [image(KEPT), text("dark"), image(KEPT, "q"), text("bright", "q"), text("dark", "other")]
    own = {point.id: point.payload.get("own_cosine") for point in reencoder(media)(asked).points}
    assert own == {"p-a": 0.0, "p-dark": 0.0, "q-a": 1.0, "q-bright": 1.0, "other-dark": None}


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (image(GONE), Unencodable.NOT_KEPT),
        (image("no hash"), Unencodable.NOT_KEPT),
        (image(BROKEN), Unencodable.UNREADABLE),
        (text("nothing"), Unencodable.NO_VECTOR),
    ],
)
def test_what_cannot_be_encoded_is_told_with_its_reason(
    media: MediaStore, point: Point, reason: Unencodable
) -> None:
    result = reencoder(media)([point, text("bright", post="q")])
    assert result.failed == {point.id: reason}
    assert [made.id for made in result.points] == ["q-bright"]


def test_without_a_media_store_no_picture_can_be_encoded() -> None:
    assert reencoder(None)([image(KEPT)]).failed == {"p-a": Unencodable.NO_MEDIA_STORE}


def test_texts_beyond_the_models_context_are_counted() -> None:
    assert reencoder(None).cut([text("short"), text("a text that is too long"), image(KEPT)]) == 1
