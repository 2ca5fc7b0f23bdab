"""The matching head served from what a store keeps equals the one on full tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.rerank_cost import Bench, difference, measure
from model import backbone as towers
from model import matching_head
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.lru import LruCache
from model.matching_head import MatchingHead
from model.rerank import ImageParts, PairScorer, TextParts
from model.serving.encoder import BatchLimits, Encoder

TEXTS = [
    ("a red wall", "all of it is red, with a white band"),
    ("the harbour of a town in the north", ""),
    ("rain", "a disc of gold on green"),
]
PAIRS = [(2, 0), (0, 3), (0, 1), (1, 2), (0, 0), (2, 3)]  # unequal counts, in no order


def architecture(*, attend_padding: bool = False) -> ArchitectureConfig:
    return ArchitectureConfig(
        embed_dim=32,
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
        text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=24),
        experts=ExpertConfig(2, 3, 1, attend_padding=attend_padding),
    )


def build(*, attend_padding: bool = False) -> EntityClip:
    torch.manual_seed(3)
    model = EntityClip(architecture(attend_padding=attend_padding)).eval()
    for name, weights in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(weights, mean=float("norm" in name and "weight" in name), std=0.2)
    torch.nn.init.normal_(model.pair_gate.weight, std=0.5)  # an even gate would hide a wrong order
    return model


def pictures(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def naive_logit(model: EntityClip, encoder: Encoder, text: tuple[str, str], pixels: np.ndarray) -> float:
    """One pair through full tokens, every text padded to the context."""
    length = encoder.tokenizer.context_length
    beside = "" if encoder.reads_explanations else text[1]
    ids = encoder.token_tensor(encoder.token_rows([text[0]], [text[1]]), at_least=length)
    explanation = encoder.token_tensor(encoder.tokenizer.encode([beside]), at_least=length)
    with torch.no_grad():
        out = model(encoder.image_tensor(pixels[None]), ids, explanation)
        logits = model.itm_logits(
            out.image_tokens, out.text_tokens, out.explanation_tokens, out.text_eot, out.explanation_eot
        )
    return float(logits[0, 0] - logits[0, 1])


@pytest.mark.parametrize("attend_padding", [False, True])
@pytest.mark.parametrize("reads_explanations", [False, True])
def test_logits_from_stored_scalars_equal_the_head_on_full_tokens(
    attend_padding: bool, reads_explanations: bool
) -> None:
    model = build(attend_padding=attend_padding)
    encoder = Encoder(model, reads_explanations=reads_explanations, limits=BatchLimits(rows=3))
    head, pixels = MatchingHead(model, encoder), pictures()
    vectors, scalars = head.encode_images(pixels)
    stored = json.loads(json.dumps({"vectors": vectors.tolist(), "scalars": scalars.tolist()}))

    logits = head.logits(
        TEXTS, np.array(stored["vectors"], np.float32), np.array(stored["scalars"], np.float32), PAIRS
    )

    expected = [naive_logit(model, encoder, TEXTS[text], pixels[image]) for text, image in PAIRS]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_one_forward_pass_gives_the_encoders_vectors_and_the_norm_of_the_row() -> None:
    model = build()
    encoder = Encoder(model)
    head, pixels = MatchingHead(model, encoder), pictures()
    vectors, scalars = head.encode_images(pixels)
    with torch.no_grad():
        rows = towers.image_features(model.backbone, encoder.image_tensor(pixels))
    np.testing.assert_allclose(vectors, encoder.encode_images(pixels), atol=1e-6)
    np.testing.assert_allclose(scalars[:, 0], rows.norm(dim=1), rtol=1e-5)
    assert scalars.shape == (4, head.scalars) == (4, 1 + 2 + 9)


def test_texts_that_come_again_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    head = MatchingHead(model, Encoder(model))
    vectors, scalars = head.encode_images(pictures())
    first = head.logits(TEXTS, vectors, scalars, PAIRS)
    monkeypatch.setattr(towers, "text_tokens", None)
    np.testing.assert_allclose(head.logits(TEXTS, vectors, scalars, PAIRS), first, atol=1e-6)


def test_a_head_without_room_to_keep_texts_scores_alike() -> None:
    model = build()
    encoder = Encoder(model)
    head = MatchingHead(model, encoder)
    vectors, scalars = head.encode_images(pictures())
    forgetful = MatchingHead(model, encoder, kept_bytes=0)
    for _ in range(2):
        np.testing.assert_allclose(
            forgetful.logits(TEXTS, vectors, scalars, PAIRS),
            head.logits(TEXTS, vectors, scalars, PAIRS),
            atol=1e-6,
        )


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    cache: LruCache[str, int] = LruCache(20, lambda key, size: size)
    cache.add({"a": 10, "b": 10})
    cache.find(["a"])
    cache.add({"c": 10})
    assert set(cache.find(["a", "b", "c"])) == {"a", "c"}
    assert cache.held_bytes == 20


def test_what_is_too_large_to_be_kept_drops_nothing_else() -> None:
    cache: LruCache[str, int] = LruCache(20, lambda key, size: size)
    cache.add({"a": 10})
    cache.add({"huge": 21})
    assert set(cache.find(["a", "huge"])) == {"a"}
    cache.add({"a": 30})
    assert (cache.find(["a"]), cache.held_bytes) == ({}, 0)


def test_no_forward_pass_takes_more_pairs_than_memory_is_reckoned_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build()
    head = MatchingHead(model, Encoder(model))
    vectors, scalars = head.encode_images(pictures())
    pairs = [(text, image) for text in range(len(TEXTS)) for image in range(4)][:-1]
    expected, score, sizes = head.logits(TEXTS, vectors, scalars, pairs), PairScorer.logits, list[int]()

    def noted(scorer: PairScorer, images: ImageParts, texts: TextParts, index: torch.Tensor) -> torch.Tensor:
        sizes.append(index.numel())
        return score(scorer, images, texts, index)

    monkeypatch.setattr(PairScorer, "logits", noted)
    monkeypatch.setattr(matching_head, "_PAIRS_AT_ONCE", 3)
    np.testing.assert_allclose(head.logits(TEXTS, vectors, scalars, pairs), expected, atol=1e-6)
    assert max(sizes) <= 3


def test_the_benchmarks_re_ranks_agree_and_every_step_is_timed(tmp_path: Path) -> None:
    bench = Bench(architecture(), (9, 12), candidates=3)
    assert difference(bench) < 1e-4
    cost = measure(bench, 1, tmp_path / "store")
    assert min(cost.encode, cost.rerank, cost.naive, cost.fetch, cost.image_to_text_kept) > 0
