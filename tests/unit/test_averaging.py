"""WiSE-FT: the line between two models, towers and heads."""

from __future__ import annotations

import msgspec
import pytest
import torch

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.training.averaging import interpolate

ARCHITECTURE = ArchitectureConfig(
    embed_dim=16,
    vision=VisionConfig(image_size=16, patch_size=16, width=64, layers=1),
    text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=8),
    experts=ExpertConfig(1, 1, 1),
)


def build(seed: int, architecture: ArchitectureConfig = ARCHITECTURE) -> EntityClip:
    torch.manual_seed(seed)
    model = EntityClip(architecture)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_towers_and_logit_scale_are_the_weighted_mean() -> None:
    start, end = build(0), build(1)
    model = interpolate(start, end, 0.25)
    first, second = start.state_dict(), end.state_dict()
    towers = [name for name in second if name.startswith("backbone.")]
    assert "backbone.logit_scale" in towers
    for name in towers:
        expected = 0.75 * first[name] + 0.25 * second[name]
        torch.testing.assert_close(model.state_dict()[name], expected, msg=name)


def test_heads_are_the_fine_tuned_ones_where_the_others_are_fresh() -> None:
    start, end = build(0), build(1)
    model = interpolate(start, end, 0.25)
    for name, tensor in end.state_dict().items():
        assert name.startswith("backbone.") or torch.equal(model.state_dict()[name], tensor), name


def test_trained_heads_are_interpolated_too() -> None:
    start, end = build(0), build(1)
    model = interpolate(start, end, 0.5, fresh_heads=False)
    expected = (start.itm_head.weight + end.itm_head.weight) / 2
    torch.testing.assert_close(model.itm_head.weight, expected)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_the_line_are_the_two_models_exactly(alpha: float) -> None:
    models = build(0), build(1)
    model = interpolate(*models, alpha, fresh_heads=False)
    expected = models[int(alpha)].state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_neither_model_is_changed_and_the_result_is_in_eval_mode() -> None:
    start, end = build(0), build(1).train()
    before = [tensor.clone() for model in (start, end) for tensor in model.state_dict().values()]
    result = interpolate(start, end, 0.5)
    after = [tensor for model in (start, end) for tensor in model.state_dict().values()]
    assert all(map(torch.equal, before, after))
    assert end.training
    assert not result.training


def test_other_experts_are_no_matter_where_the_heads_are_fresh() -> None:
    start = build(0, msgspec.structs.replace(ARCHITECTURE, experts=ExpertConfig(2, 3, 2)))
    assert interpolate(start, build(1), 0.5).config == ARCHITECTURE


def test_other_towers_are_refused() -> None:
    start = build(0, msgspec.structs.replace(ARCHITECTURE, embed_dim=32))
    with pytest.raises(ValueError, match=r"different architectures: backbone\."):
        interpolate(start, build(1), 0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_point_off_the_line_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="is not between 0"):
        interpolate(build(0), build(1), alpha)
