"""The matching head from parts equals the one from full tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.evaluation import encoded
from model.evaluation.encoded import SetEncoder
from model.rerank import PairScorer
from model.tokenizer import ClipTokenizer

CAPTIONS = ["a red wall", "the harbour of a town in the north", "a", "fishermen wait", "rain"]
EXPLANATIONS = [
    "all of it is red, with a white band",
    "",
    "blue and green",
    "",
    "a disc of gold",
]


def build(experts: ExpertConfig) -> EntityClip:
    torch.manual_seed(3)
    config = ArchitectureConfig(
        embed_dim=32,
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
        text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=20),
        experts=experts,
    )
    model = EntityClip(config).eval()
    torch.nn.init.normal_(model.pair_gate.weight, std=0.5)  # an even gate would hide a wrong order
    torch.nn.init.normal_(model.itm_head.weight)
    return model


def naive_logits(model: EntityClip, pixels: np.ndarray, image: int, text: int) -> float:
    """One pair through full, padded tokens."""
    tokenizer = ClipTokenizer(600, 20)
    encoder = SetEncoder(model)
    ids = torch.from_numpy(tokenizer([CAPTIONS[text]]))
    explanation = torch.from_numpy(tokenizer([EXPLANATIONS[text]]))
    with torch.no_grad():
        out = model(encoder._encoder.image_tensor(pixels[image : image + 1]), ids, explanation)
        logits = model.itm_logits(
            out.image_tokens, out.text_tokens, out.explanation_tokens, out.text_eot, out.explanation_eot
        )
    return float(logits[0, 0] - logits[0, 1])


@pytest.mark.parametrize("attend_padding", [False, True])
@pytest.mark.parametrize("counts", [(2, 3, 1), (4, 4, 4), (1, 1, 0)])
def test_pairs_scored_from_parts_equal_the_head_on_full_tokens(
    attend_padding: bool, counts: tuple[int, int, int]
) -> None:
    model = build(ExpertConfig(*counts, attend_padding=attend_padding))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    encoder = SetEncoder(model, batch_size=2)
    images, texts = (
        encoder.encode_images([pixels[:3], pixels[3:]]),
        encoder.encode_texts(CAPTIONS, EXPLANATIONS),
    )
    pairs = [(i, t) for t in (3, 0, 4, 1) for i in range(4) if (i + t) % 3]  # unequal counts, in no order
    image_index, text_index = (np.array(column, np.int64) for column in zip(*pairs, strict=True))

    scores = encoder.matching_logits(images, texts, image_index, text_index)

    expected = [naive_logits(model, pixels, i, t) for i, t in pairs]
    np.testing.assert_allclose(scores, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_features_equal_the_models_own() -> None:
    model = build(ExpertConfig(2, 2, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    encoder = SetEncoder(model, batch_size=2)
    tokenizer = ClipTokenizer(600, 20)
    with torch.no_grad():
        out = model(
            encoder._encoder.image_tensor(pixels),
            torch.from_numpy(tokenizer(CAPTIONS)),
            torch.from_numpy(tokenizer(EXPLANATIONS)),
        )

    images, texts = encoder.encode_images([pixels]), encoder.encode_texts(CAPTIONS, EXPLANATIONS)

    np.testing.assert_allclose(images.features, out.image_features, atol=1e-5)
    np.testing.assert_allclose(texts.features, out.text_features, atol=1e-5)
    np.testing.assert_allclose(texts.fused, out.fused_text_features, atol=1e-5)


def test_scores_do_not_depend_on_how_many_pairs_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(ExpertConfig(2, 2, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    encoder = SetEncoder(model)
    images, texts = encoder.encode_images([pixels]), encoder.encode_texts(CAPTIONS, EXPLANATIONS)
    image_index, text_index = (index.ravel() for index in np.indices((6, 5)))
    at_once = encoder.matching_logits(images, texts, image_index, text_index)

    monkeypatch.setattr("model.evaluation.encoded._PAIR_BYTES", 1)

    np.testing.assert_allclose(
        encoder.matching_logits(images, texts, image_index, text_index), at_once, rtol=1e-4, atol=1e-5
    )


def test_without_a_share_variant_q_is_variant_p() -> None:
    model = build(ExpertConfig(2, 2, 2))
    texts = SetEncoder(model).encode_texts(CAPTIONS, EXPLANATIONS)

    np.testing.assert_allclose(texts.mixed(0.0), texts.features, atol=1e-6)
    np.testing.assert_allclose(texts.mixed(1.0), texts.fused, atol=1e-6)


def test_an_image_s_parts_do_not_keep_its_tokens_in_memory() -> None:
    model = build(ExpertConfig(1, 1, 1))
    parts = PairScorer(model).image_parts(torch.randn(4, 50, 32))
    assert parts.row.untyped_storage().nbytes() == 4 * 32 * 4


def test_mixed_texts_are_unit_vectors_between_plain_and_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = SetEncoder(build(ExpertConfig(1, 1, 1))).encode_texts(CAPTIONS, EXPLANATIONS)
    expected = 0.7 * texts.features.astype(np.float64) + 0.3 * texts.fused
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for rows in (2, 100):
        monkeypatch.setattr(encoded, "_ROWS_AT_ONCE", rows)
        np.testing.assert_allclose(texts.mixed(0.3), expected, atol=1e-6)
