"""The contrastive loss (ITC) of image–text pairs, over the rows of all processes of a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.experts import at_least_float32
from model.world import World


def duplicate_mask(image_group: Tensor, text_group: Tensor, world: World | None = None) -> Tensor:
    """Return which pairs other than a row with itself share an image or a caption.

    Args:
        image_group, text_group: [B] int64, this rank's.

    Returns:
        [B, G] bool, this rank's rows by the rows of all W ranks; G = W · B.
    """
    world = world or World()
    all_images, all_texts = world.gather(image_group), world.gather(text_group)
    same = (image_group.unsqueeze(1) == all_images) | (text_group.unsqueeze(1) == all_texts)
    rows = torch.arange(len(same), device=same.device)
    same[rows, rows + world.rank * len(same)] = False
    return same


def contrastive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    duplicates: Tensor | None = None,
    world: World | None = None,
) -> Tensor:
    """Symmetric image–text cross-entropy.

    Args:
        image_features: [B, D] float, L2-normalised.
        text_features: [B, D] float, L2-normalised; row i pairs with image i.
        logit_scale: [] float, already exponentiated.
        duplicates: [B, G] bool from `duplicate_mask`, pairs left out of the denominators.
        world: the ranks whose rows are contrasted together.

    Returns:
        [] float32 or better, nats, mean of both directions over this rank's rows.

    Raises:
        ValueError: batch sizes differ.

    Source: CLIP, arXiv:2103.00020, figure 3.
    """
    if image_features.shape != text_features.shape:
        raise ValueError(f"features differ in shape: {image_features.shape} and {text_features.shape}")
    world = world or World()
    image_logits = pair_logits(image_features, world.gather(text_features), logit_scale, duplicates)
    if world.size == 1:
        return two_way(image_logits, image_logits.T, world)
    text_logits = pair_logits(text_features, world.gather(image_features), logit_scale, duplicates)
    return two_way(image_logits, text_logits, world)


def two_way(image_logits: Tensor, text_logits: Tensor, world: World) -> Tensor:
    """Mean cross-entropy of both directions. [B, G] each, this rank's rows by all."""
    rows = len(image_logits)
    target = torch.arange(rows, device=image_logits.device) + world.rank * rows
    return (
        functional.cross_entropy(image_logits, target) + functional.cross_entropy(text_logits, target)
    ) / 2


def pair_logits(
    rows: Tensor, columns: Tensor, logit_scale: Tensor, duplicates: Tensor | None = None
) -> Tensor:
    """Scaled cosines of every row with every column, duplicates at -inf.

    Args:
        rows: [B, D], columns: [G, D]; L2-normalised.

    Returns:
        [B, G] float32 or better.
    """
    with torch.autocast(rows.device.type, enabled=False):
        logits = at_least_float32(logit_scale) * at_least_float32(rows) @ at_least_float32(columns).T
    return logits if duplicates is None else logits.masked_fill(duplicates, -math.inf)
