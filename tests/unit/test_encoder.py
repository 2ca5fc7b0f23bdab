"""The serving encoder: order, batching, and honest failure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import backbone as towers
from model.config import PreprocessConfig
from model.serving.encoder import BatchLimits, Encoder, batches_by_length
from tests.unit.test_entityclip import build

TEXTS = ["short", "a much longer text about the harbour of a town", "", "middle sized text", "short"]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(build(attend_padding=False), limits=BatchLimits(rows=2))


def test_texts_come_back_in_their_order_however_they_are_batched(encoder: Encoder) -> None:
    together = encoder.encode_texts(TEXTS)
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.shape == (5, 32)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_cut_texts_equal_texts_at_full_length(encoder: Encoder) -> None:
    model = build(attend_padding=False)
    ids = torch.from_numpy(encoder.tokenizer(TEXTS))
    with torch.no_grad():
        full = functional.normalize(towers.text_features(model.backbone, ids), dim=-1)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), full.numpy(), atol=1e-6)


def test_images_are_normalised_as_the_checkpoint_says() -> None:
    model = build(attend_padding=False)
    preprocess = PreprocessConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels / 255).permute(0, 3, 1, 2).float()
    image = (image - torch.tensor([0.5, 0.25, 0.0]).view(3, 1, 1)) / torch.tensor([0.5, 0.5, 1.0]).view(
        3, 1, 1
    )
    with torch.no_grad():
        expected = functional.normalize(model.backbone.encode_image(image)[0], dim=-1)
    np.testing.assert_allclose(Encoder(model, preprocess).encode_images(pixels), expected, atol=1e-5)


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    assert encoder.encode_texts([]).shape == (0, 32)
    assert encoder.encode_images(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 32)


def test_a_model_without_a_vector_gives_nan_rows_not_zeros() -> None:
    model = build(attend_padding=False)
    torch.nn.init.zeros_(model.backbone.text_projection)
    assert np.isnan(Encoder(model).encode_texts(["text"])).all()


def test_every_text_is_in_one_forward_pass_within_the_limits() -> None:
    lengths = np.random.default_rng(0).integers(2, 78, 500).tolist()
    limits = BatchLimits(rows=32, tokens=1000)
    parts = batches_by_length(lengths, limits)
    assert sorted(place for part in parts for place in part) == list(range(500))
    assert max(len(part) for part in parts) <= 32
    assert max(len(part) * max(lengths[place] for place in part) for part in parts) <= 1000


def test_texts_of_alike_lengths_share_a_pass() -> None:
    parts = batches_by_length([10, 70] * 20, BatchLimits())
    assert [{[10, 70][place % 2] for place in part} for part in parts] == [{10}, {70}]


def test_a_few_texts_are_not_torn_apart_by_their_lengths() -> None:
    assert len(batches_by_length([5, 20, 40], BatchLimits())) == 1


def test_a_text_longer_than_the_limit_runs_alone() -> None:
    assert batches_by_length([50, 3, 50], BatchLimits(tokens=20)) == [[1], [0], [2]]


def test_pictures_are_cut_into_passes_of_the_pixels_allowed() -> None:
    encoder = Encoder(build(attend_padding=False), limits=BatchLimits(pixels=3 * 32 * 32))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    assert [len(part) for part in encoder.image_parts(pixels)] == [3, 3, 1]
    np.testing.assert_allclose(
        encoder.encode_images(pixels), Encoder(build(attend_padding=False)).encode_images(pixels), atol=1e-6
    )


def test_several_threads_encode_at_once(encoder: Encoder) -> None:
    alone = encoder.encode_texts(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: encoder.encode_texts(TEXTS), range(16)):
            np.testing.assert_allclose(vectors, alone, atol=1e-6)


def test_the_time_that_the_device_computes_is_metered(encoder: Encoder) -> None:
    before = encoder.device_seconds()
    encoder.encode_texts(TEXTS)
    assert encoder.device_seconds() > before
