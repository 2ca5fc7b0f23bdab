"""What a training step costs at ViT-B/32 size, counted without computing it, and that the count is whole."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step import (
    architecture,
    build_models,
    forward_flops,
    losses,
    random_batch,
    time_ways,
    unique_parameters,
)
from benchmarks.training_step_report import BACKBONE, OURS, PUBLISHED, Step, cpu_ratios, ratios
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.experts import ExpertGroup
from tests.published_reference import PublishedEntityClip

SMALL = ArchitectureConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
    text=TextConfig(width=64, heads=1, layers=1, vocab_size=100, context_length=12),
    experts=ExpertConfig(1, 2, 1, attend_padding=True),
)


@pytest.fixture(scope="module")
def flops() -> dict[str, int]:
    """Forward FLOPs by way at ViT-B/32 size, batch 16; shapes alone, no memory."""
    config = architecture("ViT-B-32")
    with FakeTensorMode():
        ours, published = build_models(config, "cpu")
        ways = losses(ours, published, random_batch(config, 16, "cpu"))
        return {way: forward_flops(loss) for way, loss in ways.items()}


def test_our_step_costs_hardly_more_than_the_backbone_alone(flops: dict[str, int]) -> None:
    assert 1.0 < flops[OURS] / flops[BACKBONE] <= 1.03


def test_the_published_step_costs_more_than_twice_ours(flops: dict[str, int]) -> None:
    assert flops[PUBLISHED] / flops[OURS] >= 2


@pytest.mark.parametrize("queries", [1, 2])
def test_every_product_of_our_experts_is_counted(queries: int) -> None:
    experts, width, batch, tokens = 3, 32, 5, 9
    group = ExpertGroup(experts, width)
    with FlopCounterMode(display=False) as counter:
        group(torch.randn(batch, queries, width), torch.randn(batch, tokens, width))
    rows = experts * batch * queries
    projections = 4 + 8  # query, key, value and output are D × D; the MLP is twice D × 4D
    multiplications = rows * (projections * width * width + 2 * tokens * width)
    assert counter.get_total_flops() == 2 * multiplications


@pytest.fixture(scope="module")
def models() -> tuple[EntityClip, PublishedEntityClip]:
    """Both forms of a small model, really computed."""
    return build_models(SMALL, "cpu")


def test_ways_are_timed_by_turns_without_the_warm_up(models: tuple[EntityClip, PublishedEntityClip]) -> None:
    ways = losses(*models, random_batch(SMALL, 3, "cpu"))
    steps = time_ways(ways, unique_parameters(*models), "cpu", ["fp32", "bf16"], rounds=2)
    turn = [(way, precision) for precision in ("fp32", "bf16") for way in (OURS, PUBLISHED, BACKBONE)]
    assert [(step.way, step.precision) for step in steps] == 2 * turn


def test_compared_ways_compute_the_same_loss(models: tuple[EntityClip, PublishedEntityClip]) -> None:
    ways = losses(*models, random_batch(SMALL, 6, "cpu"))
    torch.testing.assert_close(ways[OURS](), ways[PUBLISHED](), atol=1e-5, rtol=0)


def test_gradients_do_not_pile_up_between_timed_steps(
    models: tuple[EntityClip, PublishedEntityClip],
) -> None:
    parameters = unique_parameters(*models)
    time_ways(losses(*models, random_batch(SMALL, 3, "cpu")), parameters, "cpu", ["fp32"], rounds=1)
    assert all(parameter.grad is None for parameter in parameters)


def test_a_ratio_compares_steps_of_the_same_round() -> None:
    slow = [Step(PUBLISHED, "fp32", 2.0, 4.0, 4.0, None), Step(PUBLISHED, "fp32", 10.0, 10.0, 5.0, None)]
    fast = [Step(OURS, "fp32", 1.0, 1.0, 2.0, None), Step(OURS, "fp32", 5.0, 5.0, 5.0, None)]
    assert ratios(slow, fast) == [3.0, 2.0]
    assert cpu_ratios(slow, fast) == [2.0, 1.0]
