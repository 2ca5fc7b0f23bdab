"""What a training step costs at ViT-B/32 size, counted without computing it, and that the count is whole."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.experts import ExpertGroup
from worker.bench.published import PublishedEntityClip
from worker.bench.train import TrainOptions, bench_train
from worker.bench.train_report import BACKBONE, OURS, PUBLISHED, Precision, step_name
from worker.bench.train_ways import (
    architecture,
    build_models,
    forward_flops,
    losses,
    random_batch,
    run_step,
    time_steps,
    unique_parameters,
)

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


def test_every_way_is_timed_in_every_precision_without_the_warm_up(
    models: tuple[EntityClip, PublishedEntityClip],
) -> None:
    ways = losses(*models, random_batch(SMALL, 3, "cpu"))
    turns = time_steps(ways, unique_parameters(*models), "cpu", list(Precision), rounds=2)
    assert {name: len(steps) for name, steps in turns.runs.items()} == {
        step_name(way, precision): 2 for way in ways for precision in Precision
    }


def test_compared_ways_compute_the_same_loss(models: tuple[EntityClip, PublishedEntityClip]) -> None:
    ways = losses(*models, random_batch(SMALL, 6, "cpu"))
    torch.testing.assert_close(ways[OURS](), ways[PUBLISHED](), atol=1e-5, rtol=0)


def test_gradients_do_not_pile_up_between_timed_steps(
    models: tuple[EntityClip, PublishedEntityClip],
) -> None:
    parameters, gradients = unique_parameters(*models), []
    loss = losses(*models, random_batch(SMALL, 3, "cpu"))[OURS]
    for _ in range(2):
        run_step(loss, parameters, "cpu", Precision.FP32)
        gradients.append(models[0].backbone.logit_scale.grad)
    torch.testing.assert_close(*gradients)


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises((OSError, ValueError), match="no-such-model"):
        architecture("no-such-model")


@pytest.mark.slow
def test_a_report_holds_every_way_and_both_settings_of_the_allocator() -> None:
    report = bench_train(TrainOptions("tiny", "cpu", batch=2, rounds=1), "entityclip bench train")
    names = {row.name for section in report.sections for row in section.rows}
    assert {OURS, PUBLISHED, BACKBONE, "ours, fp32", "ours, fused", "default", "keep"} <= names
    assert [note for note in report.notes if note.startswith("loss of the batch: ours")]
