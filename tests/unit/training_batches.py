"""A tiny model and ready batches for the tests of gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from model.entityclip import EntityClip
from model.losses.contrastive import duplicate_mask
from model.losses.matching import HardNegatives
from model.losses.total import LossParts, LossWeights, entityclip_loss
from model.training.step import TensorBatch
from tests.unit.test_entityclip import build, texts

ROWS = 8


def tiny_model() -> EntityClip:
    """Double precision, so that only a wrong formula differs."""
    return build(attend_padding=False).double()


def tiny_batch() -> TensorBatch:
    """Eight rows; rows 0 and 5 share an image, rows 1 and 2 a caption."""
    ids = texts(ROWS)
    torch.manual_seed(2)
    return TensorBatch(
        image=torch.randn(ROWS, 3, 32, 32, dtype=torch.float64),
        text=ids,
        explanation=ids.roll(3, 0),
        image_group=torch.tensor([0, 1, 2, 3, 4, 0, 6, 7]),
        text_group=torch.tensor([0, 1, 1, 3, 4, 5, 6, 7]),
    )


def negatives_within(size: int) -> HardNegatives:
    """Wrong rows from within consecutive groups of `size`; two rows of the first half have none."""
    start = torch.arange(ROWS) // size * size
    place = torch.arange(ROWS) % size
    valid = torch.ones(ROWS, dtype=torch.bool)
    text_valid = valid.clone()
    text_valid[[0, 2]] = False
    return HardNegatives(
        image=start + (place + 1) % size,
        text=start + (place + 2) % size,
        image_valid=valid,
        text_valid=text_valid,
    )


def big_batch(model: EntityClip, weights: LossWeights, negatives: HardNegatives) -> LossParts:
    """Loss and gradients of the whole batch by the full forward pass and plain autograd."""
    batch = tiny_batch()
    parts = entityclip_loss(
        model,
        model(batch.image, batch.text, batch.explanation),
        weights=weights,
        duplicates=duplicate_mask(batch.image_group, batch.text_group),
        negatives=negatives,
    )
    parts.total.backward()  # type: ignore[no-untyped-call]
    return parts


def gradients(model: EntityClip) -> dict[str, Tensor]:
    """The gradients that are there, by name."""
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same parameters have gradients, equal to 1e-6, and they are not all nothing."""
    assert ours.keys() == expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        assert torch.allclose(ours[name], gradient, atol=1e-6, rtol=1e-6), name


CASES = {
    "whole loss": LossWeights(0.7, 0.5),
    "pairwise auxiliary negatives": LossWeights(0.7, 0.5, "pairwise"),
    "no matching": LossWeights(0.7, 0.0),
    "no auxiliary": LossWeights(0.0, 0.5),
    "plain CLIP": LossWeights(0.0, 0.0),
}
