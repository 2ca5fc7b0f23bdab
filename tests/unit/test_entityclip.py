"""The model as a whole: cutting texts, masks, and what the heads see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import backbone as towers
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import MAX_LOGIT_SCALE, EntityClip


def build(*, attend_padding: bool) -> EntityClip:
    torch.manual_seed(0)
    return EntityClip(
        ArchitectureConfig(
            embed_dim=32,
            vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=2),
            text=TextConfig(width=64, heads=2, layers=2, vocab_size=600, context_length=24),
            experts=ExpertConfig(2, 1, 2, attend_padding=attend_padding),
        )
    ).eval()


def texts(count: int, length: int = 24) -> Tensor:
    """Token ids with their EOT at different places and zeros behind it."""
    torch.manual_seed(1)
    ids = torch.randint(1, 590, (count, length))
    for row in range(count):
        end = 3 + row
        ids[row, 0], ids[row, end], ids[row, end + 1 :] = 598, 599, 0
    return ids


def test_cut_texts_give_the_same_features() -> None:
    model, ids = build(attend_padding=False), texts(4)
    with torch.no_grad():
        full = towers.text_features(model.backbone, ids)
        cut = towers.text_features(model.backbone, ids[:, :7])
    torch.testing.assert_close(full, cut, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attend_padding", [False, True])
def test_cut_texts_give_the_same_expert_rows_only_under_the_mask(attend_padding: bool) -> None:
    model, ids, image = build(attend_padding=attend_padding), texts(4), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        full, cut = model(image, ids, ids), model(image, ids[:, :7], ids[:, :7])
    difference = float((full.fused_text_features - cut.fused_text_features).abs().max())
    if attend_padding:
        assert difference > 1e-4
    else:
        assert difference < 1e-5


def test_texts_of_different_lengths_are_encoded_alike() -> None:
    model, ids, image = build(attend_padding=False), texts(4), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        together, apart = model(image, ids, ids), model(image, ids, ids[:, :8])
    torch.testing.assert_close(together.fused_image_features, apart.fused_image_features, atol=1e-6, rtol=0)


def test_fused_image_features_depend_on_the_explanation() -> None:
    model, ids, image = build(attend_padding=False), texts(4), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        own, other = model(image, ids, ids), model(image, ids, ids.roll(1, 0))
    torch.testing.assert_close(own.image_features, other.image_features)
    assert not torch.allclose(own.fused_image_features, other.fused_image_features, atol=1e-4)


def test_logit_scale_is_clamped() -> None:
    model = build(attend_padding=False)
    with torch.no_grad():
        model.backbone.logit_scale.fill_(10.0)
    assert model.logit_scale().item() == MAX_LOGIT_SCALE


def test_too_many_tokens_are_refused() -> None:
    model = build(attend_padding=False)
    with pytest.raises(ValueError, match="25 tokens exceed the context of 24"):
        towers.text_tokens(model.backbone, torch.zeros(1, 25, dtype=torch.long))


def test_a_backbone_without_class_token_is_refused() -> None:
    with pytest.raises(ValueError, match="no open_clip CLIP"):
        EntityClip(ArchitectureConfig(), backbone=torch.nn.Linear(2, 2))
