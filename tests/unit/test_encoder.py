"""The serving encoder: order, batching, and honest failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import backbone as towers
from model.config import PreprocessConfig
from model.encoder import Encoder
from tests.unit.test_entityclip import build

TEXTS = ["short", "a much longer text about the harbour of a town", "", "middle sized text", "short"]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(build(attend_padding=False), batch_size=2)


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
