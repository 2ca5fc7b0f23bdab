"""A step's forward pass does what its loss needs and no more; cached image tokens stand for pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import backbone as towers
from model.config import PreprocessConfig
from model.data.prepare import resolve_prepared
from model.data.prepared import PreparedSplit, open_prepared
from model.entityclip import EntityClip
from model.losses.contrastive import duplicate_mask
from model.losses.pair_rows import PairRows
from model.losses.pairwise import pairwise_auxiliary_loss
from model.losses.total import LossWeights
from model.serving.encoder import Encoder
from model.training import image_cache
from model.training.batches import Batch, RankShare
from model.training.image_cache import open_image_cache
from model.training.step import Tensorizer, encode_pairs
from model.training.validation import recall_on
from tests.datasets import write_n24news
from tests.unit.test_entityclip import build
from tests.unit.training_batches import ROWS, tiny_batch, tiny_model
from tests.unit.training_runs import RECIPE, Colours


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("news")
    return open_prepared(resolve_prepared(write_n24news(folder / "data").spec, folder), "train")


def encoded_texts(model: EntityClip, run: Callable[[], object]) -> int:
    """How many texts go through the text tower."""
    counts: list[int] = []
    hook = model.backbone.token_embedding.register_forward_hook(
        lambda _, inputs, __: counts.append(len(inputs[0]))
    )
    run()
    hook.remove()
    return sum(counts)


@pytest.mark.parametrize(
    ("weights", "texts"), [((0.0, 0.0), ROWS), ((0.1, 0.0), 2 * ROWS), ((0.0, 0.1), 2 * ROWS)]
)
def test_explanations_are_encoded_only_where_a_term_needs_them(
    weights: tuple[float, float], texts: int
) -> None:
    model, explained = tiny_model(), LossWeights(*weights).explained
    assert encoded_texts(model, lambda: encode_pairs(model, tiny_batch(), explained=explained)) == texts


def test_plain_rows_are_those_of_the_full_forward_pass() -> None:
    model, batch = tiny_model(), tiny_batch()
    plain = encode_pairs(model, batch, explained=False)
    full = encode_pairs(model, batch, explained=True)
    torch.testing.assert_close(plain.image, full.image)
    torch.testing.assert_close(plain.text, full.text)
    assert plain.explained is None
    with pytest.raises(ValueError, match="explanations, which were not encoded"):
        plain.need_explained()


def test_pairwise_auxiliary_loss_equals_the_plain_loop() -> None:
    model, batch = tiny_model(), tiny_batch()
    duplicates = duplicate_mask(batch.image_group, batch.text_group)
    scores = torch.empty(ROWS, ROWS, dtype=torch.float64)
    with torch.no_grad():
        ours = pairwise_auxiliary_loss(model, encode_pairs(model, batch, explained=True), duplicates)
        for i in range(ROWS):
            for j in range(ROWS):  # image i under the explanation of text j
                output = model(batch.image[i : i + 1], batch.text[j : j + 1], batch.explanation[j : j + 1])
                scores[i, j] = (output.fused_image_features * output.fused_text_features).sum()
        logits = (scores * model.logit_scale()).masked_fill(duplicates, -torch.inf)
    target = torch.arange(ROWS)
    expected = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
    assert float(ours) == pytest.approx(float(expected), abs=1e-9)


def test_rows_can_be_taken_apart_and_put_together() -> None:
    model, batch = tiny_model(), tiny_batch()
    whole = encode_pairs(model, batch, explained=True)
    parts = [encode_pairs(model, batch[rows], explained=True) for rows in (slice(0, 3), slice(3, ROWS))]
    joined = PairRows.cat(parts)
    for ours, expected in zip(joined.tensors(), whole.tensors(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert torch.equal(joined.need_explained().eot, whole.need_explained().eot)


def test_ranks_share_a_batch_without_loss() -> None:
    whole = Colours().batch(3)
    shares = [RankShare(Colours(), rank, 2).batch(3) for rank in range(2)]
    assert [caption for share in shares for caption in share.captions] == whole.captions
    assert np.array_equal(np.concatenate([share.pixels for share in shares]), whole.pixels)


def test_cached_tokens_are_those_of_the_tower(split: PreparedSplit, tmp_path: Path) -> None:
    model, preprocess = build(attend_padding=False), PreprocessConfig()
    cache = open_image_cache(tmp_path, model, split, preprocess, "cpu")
    index = np.array([2, 0, 2])
    encoder = Encoder(model, preprocess)
    pixels = split.pixels(index, encoder.image_size, preprocess.resize_mode)
    with torch.no_grad():
        expected = towers.image_tokens(model.backbone, encoder.image_tensor(pixels))
    torch.testing.assert_close(cache(index).float(), expected, atol=2e-3, rtol=2e-3)


def test_weights_are_moved_where_they_can_still_be_trained(
    split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moving(Encoder):
        """Another device changes what the parameters hold, and so does another precision."""

        def __init__(self, model: EntityClip, preprocess: PreprocessConfig, *, device: str) -> None:
            super().__init__(model.double().float(), preprocess, device=device)

    monkeypatch.setattr(image_cache, "Encoder", Moving)
    model = build(attend_padding=False)
    image_cache.open_image_cache(tmp_path, model, split, PreprocessConfig(), "cpu")
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_cached_tokens_are_computed_once_and_again_for_another_tower(
    split: PreparedSplit, tmp_path: Path
) -> None:
    model, preprocess = build(attend_padding=False), PreprocessConfig()
    first = open_image_cache(tmp_path, model, split, preprocess, "cpu")(np.array([0]))
    made = (tmp_path / "image-tokens.npy").stat().st_mtime_ns
    open_image_cache(tmp_path, model, split, preprocess, "cpu")
    assert (tmp_path / "image-tokens.npy").stat().st_mtime_ns == made
    with torch.no_grad():
        model.backbone.visual.proj.mul_(2)
    second = open_image_cache(tmp_path, model, split, preprocess, "cpu")(np.array([0]))
    torch.testing.assert_close(second, 2 * first, atol=1e-2, rtol=1e-2)


def test_cached_tokens_need_stored_pictures() -> None:
    tensorize = Tensorizer(
        RECIPE.architecture, RECIPE.preprocess, torch.device("cpu"), lambda _: torch.zeros(1)
    )
    batch: Batch = Colours().batch(0)
    with pytest.raises(ValueError, match="stored pictures"):
        tensorize(batch)


def test_validation_measures_both_directions_on_a_seeded_draw(split: PreparedSplit) -> None:
    model = EntityClip(RECIPE.architecture)
    metrics = recall_on(split, RECIPE, "cpu")(model)
    assert metrics == recall_on(split, RECIPE, "cpu")(model)
    both = (metrics["image_to_text_R@1"] + metrics["text_to_image_R@1"]) / 2
    assert metrics["recall"] == pytest.approx(both, abs=1e-5)
    assert metrics["text_to_image_R@10"] >= metrics["text_to_image_R@1"]
