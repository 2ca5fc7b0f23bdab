"""Many posts through one encoder: order, refused pictures, what is encoded, what waits."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from model.checkpoint import Checkpoint, load
from model.pictures.decode import ImageReason, decode_picture
from model.serving.encoder import Encoder
from model.serving.stream import RawPost, encode_stream


@pytest.fixture(scope="module")
def checkpoint(random_checkpoint: Path) -> Checkpoint:
    return load(random_checkpoint)


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint) -> Encoder:
    return Encoder.of(checkpoint)


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((80, 60)).save(file, "JPEG")
    return file.getvalue()


def _posts(count: int) -> list[RawPost]:
    return [RawPost(f"caption {n}", f"explained {n * n}", _picture(n)) for n in range(count)]


def test_vectors_come_in_the_order_of_the_posts(encoder: Encoder) -> None:
    posts = _posts(7)
    batches = list(encode_stream(encoder, posts, threads=3, encode_threads=2, rows=2))
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    pixels = [decode_picture(post.picture or b"", target=32).for_model(32) for post in posts]
    images = np.concatenate([batch.images for batch in batches])
    np.testing.assert_allclose(images, encoder.encode_images(np.stack(pixels)), atol=1e-5)
    texts = np.concatenate([batch.texts for batch in batches])
    np.testing.assert_allclose(texts, encoder.encode_texts([post.caption for post in posts]), atol=1e-5)


def test_explanations_are_texts_of_their_own_where_the_model_does_not_read_them(encoder: Encoder) -> None:
    (batch,) = encode_stream(encoder, _posts(3))
    assert batch.explanations is not None
    expected = encoder.encode_texts(["explained 0", "explained 1", "explained 4"])
    np.testing.assert_allclose(batch.explanations, expected, atol=1e-5)


def test_explanations_stand_behind_the_captions_where_the_model_reads_them(checkpoint: Checkpoint) -> None:
    reading = Encoder.of(
        replace(checkpoint, config=msgspec.structs.replace(checkpoint.config, text="concat"))
    )
    (batch,) = encode_stream(reading, _posts(2))
    assert batch.explanations is None
    expected = reading.encode_texts(["caption 0", "caption 1"], ["explained 0", "explained 1"])
    np.testing.assert_allclose(batch.texts, expected, atol=1e-5)


def test_a_broken_picture_is_refused_in_its_place_and_its_text_is_encoded(encoder: Encoder) -> None:
    posts = _posts(3)
    posts[1] = replace(posts[1], picture=posts[1].picture[:40] if posts[1].picture else None)
    (batch,) = encode_stream(encoder, posts)
    assert {row: error.reason for row, error in batch.refused.items()} == {1: ImageReason.UNDECODABLE}
    assert np.isnan(batch.images[1]).all()
    assert np.isfinite(batch.images[[0, 2]]).all()
    assert np.isfinite(batch.texts).all()


def test_what_a_post_does_not_have_is_nan(encoder: Encoder) -> None:
    (batch,) = encode_stream(encoder, [RawPost("only a caption"), RawPost("", "", _picture(0))])
    assert batch.explanations is not None
    assert np.isnan(batch.images).all(axis=1).tolist() == [True, False]
    assert np.isnan(batch.texts).all(axis=1).tolist() == [False, True]
    assert np.isnan(batch.explanations).all()
    assert not batch.refused


def test_no_posts_are_no_batches(encoder: Encoder) -> None:
    assert list(encode_stream(encoder, [])) == []


def test_an_endless_input_is_read_only_a_few_batches_ahead(encoder: Encoder) -> None:
    read = 0

    def posts() -> Iterator[RawPost]:
        nonlocal read
        for read in itertools.count(1):
            yield RawPost(f"caption {read}")

    stream = encode_stream(encoder, posts(), encode_threads=1, rows=2)
    next(stream)
    stream.close()
    assert read == 2 * 3  # the one asked for, and two ahead


def test_a_file_larger_than_all_that_may_wait_is_still_encoded(encoder: Encoder) -> None:
    (batch,) = encode_stream(encoder, _posts(4), waiting_bytes=1)
    assert np.isfinite(batch.images).all()


def test_an_error_of_the_input_reaches_the_caller(encoder: Encoder) -> None:
    def posts() -> Iterator[RawPost]:
        yield RawPost("one")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(encode_stream(encoder, posts()))


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"threads": 0}, {"encode_threads": -1}])
def test_numbers_below_one_are_refused(encoder: Encoder, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(encode_stream(encoder, _posts(1), **wrong))  # type: ignore[arg-type]
