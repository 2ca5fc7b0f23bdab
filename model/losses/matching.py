"""The gated matching loss (GI-ITM) with hard negatives.

A positive is never drawn as its own negative, and a wrong text is pooled at its own EOT.

Source: EntityCLIP, arXiv:2410.17810, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.entityclip import EntityClip, EntityClipOutput, ExpertOutputs
from model.experts import at_least_float32
from model.losses.pair_rows import PairRows
from model.world import World


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """One wrong image and one wrong text a row.

    Args:
        image, text: [B] int64, the row they are taken from.
        image_valid, text_valid: [B] bool, False where the batch holds no negative for the row.
    """

    image: Tensor
    text: Tensor
    image_valid: Tensor
    text_valid: Tensor


@torch.no_grad()
def hard_negatives(logits: Tensor, generator: torch.Generator | None = None) -> HardNegatives:
    """Draw a wrong image for each text and a wrong text for each image, the likelier the harder.

    Args:
        logits: [B, B] float, images by texts; what is not finite is no negative. The diagonal never is.
        generator: source of the draw.
    """
    negatives = logits.detach().float().clone().fill_diagonal_(-math.inf)
    image, image_valid = _draw(negatives.T, generator)
    text, text_valid = _draw(negatives, generator)
    return HardNegatives(image, text, image_valid, text_valid)


def _draw(logits: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One column a row from the softmax of what is finite; rows without any are invalid, their column any."""
    finite = torch.isfinite(logits)
    valid = finite.any(dim=1)
    drawn_from = logits.masked_fill(~finite, -math.inf).masked_fill(~valid.unsqueeze(1), 0.0)
    weights = drawn_from.softmax(dim=1)
    return torch.multinomial(weights, 1, generator=generator).squeeze(1), valid


def matching_loss(
    model: EntityClip,
    output: EntityClipOutput | PairRows,
    negatives: HardNegatives,
    world: World | None = None,
    chunk: int = 0,
) -> Tensor:
    """GI-ITM cross-entropy: mean over the true pairs, the wrong texts and the wrong images.

    The explanation travels with its text, so only the explanation experts on the image are computed anew.

    Args:
        world: the mean of its ranks' losses is that of all their pairs, however many negatives each has.
        chunk: see `matching_logits`.

    Returns:
        [] float32, nats.
    """
    world = world or World()
    positive, wrong_text, wrong_image = matching_logits(model, output, negatives, chunk)
    parts = [
        _cross_entropy(positive, 0, torch.ones_like(negatives.text_valid), world),
        _cross_entropy(wrong_text, 1, negatives.text_valid, world),
        _cross_entropy(wrong_image, 1, negatives.image_valid, world),
    ]
    return torch.stack(parts).mean()


def matching_logits(
    model: EntityClip, output: EntityClipOutput | PairRows, negatives: HardNegatives, chunk: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Score true pairs and wrong ones.

    Args:
        chunk: wrong pairs that go through the experts at once, computed again in the backward pass; 0 for all
            of them, computed once.

    Returns:
        logits, [B, 2] each: true pairs, images with wrong texts, texts with wrong images.
    """
    pairs = output if isinstance(output, PairRows) else PairRows.of(output)
    rows, experts = pairs.need_explained(), pairs.need_explained().experts
    wrong_text, wrong_image = negatives.text, negatives.image
    with_wrong_text = _explain(model, pairs.image, rows.tokens[wrong_text], rows.eot[wrong_text], chunk)
    with_wrong_image = _explain(model, pairs.image[wrong_image], rows.tokens, rows.eot, chunk)
    positive, _ = model.match(pairs.image, pairs.text, experts)
    negative_text, _ = model.match(
        pairs.image,
        pairs.text[wrong_text],
        ExpertOutputs(
            experts.image, with_wrong_text, experts.text[wrong_text], experts.explained_text[wrong_text]
        ),
    )
    negative_image, _ = model.match(
        pairs.image[wrong_image],
        pairs.text,
        ExpertOutputs(experts.image[wrong_image], with_wrong_image, experts.text, experts.explained_text),
    )
    return positive, negative_text, negative_image


def _explain(model: EntityClip, image: Tensor, tokens: Tensor, eot: Tensor, chunk: int) -> Tensor:
    """`EntityClip.explain_image`, so many rows at once. [B, D], [B, L, D], [B] -> [B, Ee, D]."""
    if not chunk or chunk >= len(image):
        return model.explain_image(image, tokens, eot)
    parts = zip(*(torch.split(x, chunk) for x in (image, tokens, eot)), strict=True)
    return torch.cat([computed_again(model.explain_image, *part) for part in parts])


def computed_again(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function that draws nothing at random; its inside is computed again in the backward pass."""
    result: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return result


def _cross_entropy(logits: Tensor, label: int, valid: Tensor, world: World) -> Tensor:
    """Mean cross-entropy of the valid rows of all ranks against one label; 0 without any."""
    losses = -at_least_float32(logits).log_softmax(dim=-1)[:, label]
    count = world.sum(valid.sum()).clamp(min=1)
    return (losses * valid).sum() * world.size / count
