"""Gradients of a step: in one pass, or for batches beyond memory through cached features.

Cached features (GradCache, arXiv:2101.06983): every chunk is encoded without keeping activations; the loss of
the whole batch gives the gradient of each encoded row; then each chunk is encoded again and passes its rows'
gradient on. The result is the gradient of the big batch, to rounding. Plain accumulation is another thing: a
contrastive loss over small batches has fewer negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from model.entityclip import EntityClip
from model.losses.contrastive import duplicate_mask
from model.losses.matching import HardNegatives
from model.losses.pair_rows import PairRows
from model.losses.total import LossParts, LossWeights, entityclip_loss
from model.training.step import TensorBatch, encode_pairs
from model.world import World

Autocast = Callable[[], AbstractContextManager[object]]


def loss_and_gradients(
    model: EntityClip,
    batch: TensorBatch,
    weights: LossWeights,
    *,
    micro_batch: int = 0,
    generator: torch.Generator | None = None,
    negatives: HardNegatives | None = None,
    world: World | None = None,
    autocast: Autocast = nullcontext,
) -> LossParts:
    """Add the gradients of a batch's loss to the model's parameters, averaged over ranks.

    Args:
        batch: this rank's B rows.
        micro_batch: rows encoded at once with their activations kept; 0 for all of them.
        generator: source of the hard negatives' draw.
        negatives: in place of a draw.
        autocast: precision of the forward passes.

    Returns:
        The loss of all ranks' rows, detached.
    """
    world = world or World()
    step = _whole if not 0 < micro_batch < len(batch) else _cached

    def loss(pairs: PairRows, chunk: int) -> LossParts:
        duplicates = duplicate_mask(batch.image_group, batch.text_group, world)
        return entityclip_loss(
            model,
            pairs,
            weights=weights,
            duplicates=duplicates,
            generator=generator,
            negatives=negatives,
            world=world,
            chunk=chunk,
        )

    parts = step(model, batch, weights.explained, loss, micro_batch, autocast)
    world.average_gradients(model.parameters())
    terms = world.sum(torch.stack([parts.contrastive, parts.auxiliary, parts.matching, parts.total]))
    return LossParts(*(terms / world.size).unbind())


_Loss = Callable[[PairRows, int], LossParts]


def _whole(
    model: EntityClip, batch: TensorBatch, explained: bool, loss: _Loss, _: int, autocast: Autocast
) -> LossParts:
    with autocast():
        parts = loss(encode_pairs(model, batch, explained=explained), 0)
    parts.total.backward()  # type: ignore[no-untyped-call]
    return parts


def _cached(
    model: EntityClip, batch: TensorBatch, explained: bool, loss: _Loss, micro_batch: int, autocast: Autocast
) -> LossParts:
    chunks = [batch[start : start + micro_batch] for start in range(0, len(batch), micro_batch)]
    encoded = []
    for chunk in chunks:
        with torch.no_grad(), autocast():  # anew for each: autocast keeps the weights it has cast
            encoded.append(encode_pairs(model, chunk, explained=explained))
    whole = PairRows.cat(encoded)
    del encoded
    leaves = [tensor.requires_grad_() for tensor in whole.tensors()]
    with autocast():
        parts = loss(whole.with_tensors(leaves), micro_batch)
    parts.total.backward()  # type: ignore[no-untyped-call]
    gradients = zip(*(_split(leaf, micro_batch, len(chunks)) for leaf in leaves), strict=True)
    for chunk, gradient in zip(chunks, gradients, strict=True):
        with autocast():
            rows = encode_pairs(model, chunk, explained=explained).tensors()
        used = [
            (row, given)
            for row, given in zip(rows, gradient, strict=True)
            if given is not None and row.requires_grad  # a locked tower's rows need none
        ]
        torch.autograd.backward([row for row, _ in used], [given for _, given in used])
    return parts


def _split(leaf: Tensor, size: int, count: int) -> tuple[Tensor | None, ...]:
    """The leaf's gradient in chunks; None for each where no term used it."""
    return (None,) * count if leaf.grad is None else torch.split(leaf.grad, size)
