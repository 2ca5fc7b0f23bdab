"""EntityCLIP's training loss: L = L_VTC(V_cls, T_cls) + λ · L_VTC(V*, T*) + η · L_ITM.

Source: arXiv:2410.17810, section 3.4. Unlike the published code, a positive is never drawn as its own
negative, rows that share an image or a caption are no negatives of each other, and a wrong text is
pooled at its own EOT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.backbone import take_rows
from model.entityclip import EntityClip, EntityClipOutput, ExpertOutputs


@dataclass(frozen=True, slots=True)
class LossWeights:
    """λ and η of the paper; 0 switches a term off (and its computation)."""

    auxiliary: float = 0.1
    matching: float = 0.1


@dataclass(frozen=True, slots=True)
class LossParts:
    """The terms of one step, nats, unweighted but for the total. [] float32 each."""

    contrastive: Tensor
    auxiliary: Tensor
    matching: Tensor
    total: Tensor


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


def duplicate_mask(image_group: Tensor, text_group: Tensor) -> Tensor:
    """Return which off-diagonal pairs share an image or a caption. [B], [B] int64 -> [B, B] bool."""
    same = (image_group.unsqueeze(1) == image_group) | (text_group.unsqueeze(1) == text_group)
    same.fill_diagonal_(False)
    return same


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, duplicates: Tensor | None = None
) -> Tensor:
    """Symmetric image–text cross-entropy.

    Args:
        image_features: [B, D] float, L2-normalised.
        text_features: [B, D] float, L2-normalised; row i pairs with image i.
        logit_scale: [] float, already exponentiated.
        duplicates: [B, B] bool, pairs left out of the denominators.

    Returns:
        [] float32, nats, mean of both directions.

    Raises:
        ValueError: batch sizes differ.

    Source: CLIP, arXiv:2103.00020, figure 3.
    """
    if image_features.shape != text_features.shape:
        raise ValueError(f"features differ in shape: {image_features.shape} and {text_features.shape}")
    logits = pair_logits(image_features, text_features, logit_scale, duplicates)
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def pair_logits(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, duplicates: Tensor | None = None
) -> Tensor:
    """Scaled cosines of every image with every text, duplicates at -inf. Returns [B, B] float32."""
    with torch.autocast(image_features.device.type, enabled=False):
        logits = logit_scale.float() * image_features.float() @ text_features.float().T
    return logits if duplicates is None else logits.masked_fill(duplicates, -math.inf)


@torch.no_grad()
def hard_negatives(logits: Tensor, generator: torch.Generator | None = None) -> HardNegatives:
    """Draw a wrong image for each text and a wrong text for each image, the likelier the harder.

    Args:
        logits: [B, B] float, images by texts; -inf where a pair is no negative. The diagonal never is.
        generator: source of the draw.
    """
    negatives = logits.detach().float().clone().fill_diagonal_(-math.inf)
    image, image_valid = _draw(negatives.T, generator)
    text, text_valid = _draw(negatives, generator)
    return HardNegatives(image, text, image_valid, text_valid)


def _draw(logits: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One column a row from its softmax; rows of only -inf are invalid and give 0."""
    valid = torch.isfinite(logits).any(dim=1)
    weights = torch.where(valid.unsqueeze(1), logits, torch.zeros_like(logits)).softmax(dim=1)
    return torch.multinomial(weights, 1, generator=generator).squeeze(1), valid


def matching_loss(model: EntityClip, output: EntityClipOutput, negatives: HardNegatives) -> Tensor:
    """GI-ITM cross-entropy: mean over the true pairs, the wrong texts and the wrong images.

    The explanation travels with its text, so only the explanation experts on the image are computed anew.

    Returns:
        [] float32, nats.
    """
    positive, wrong_text, wrong_image = matching_logits(model, output, negatives)
    parts = [
        _cross_entropy(positive, 0, torch.ones_like(negatives.text_valid)),
        _cross_entropy(wrong_text, 1, negatives.text_valid),
        _cross_entropy(wrong_image, 1, negatives.image_valid),
    ]
    return torch.stack(parts).mean()


def matching_logits(
    model: EntityClip, output: EntityClipOutput, negatives: HardNegatives
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, [B, 2] each: true pairs, images with wrong texts, texts with wrong images."""
    image_row = output.image_tokens[:, 0]  # [B, D]
    text_row = take_rows(output.text_tokens, output.text_eot)  # [B, D]
    experts, wrong_text, wrong_image = output.experts, negatives.text, negatives.image
    explained = model.explain_image(
        torch.cat([image_row, image_row[wrong_image]]),
        torch.cat([output.explanation_tokens[wrong_text], output.explanation_tokens]),
        torch.cat([output.explanation_eot[wrong_text], output.explanation_eot]),
    )
    with_wrong_text, with_wrong_image = explained[: len(image_row)], explained[len(image_row) :]
    positive, _ = model.match(image_row, text_row, experts)
    negative_text, _ = model.match(
        image_row,
        text_row[wrong_text],
        ExpertOutputs(
            experts.image, with_wrong_text, experts.text[wrong_text], experts.explained_text[wrong_text]
        ),
    )
    negative_image, _ = model.match(
        image_row[wrong_image],
        text_row,
        ExpertOutputs(experts.image[wrong_image], with_wrong_image, experts.text, experts.explained_text),
    )
    return positive, negative_text, negative_image


def _cross_entropy(logits: Tensor, label: int, valid: Tensor) -> Tensor:
    """Mean cross-entropy of the valid rows against one label; 0 without any."""
    losses = -logits.float().log_softmax(dim=-1)[:, label]
    return (losses * valid).sum() / valid.sum().clamp(min=1)


def entityclip_loss(
    model: EntityClip,
    output: EntityClipOutput,
    *,
    weights: LossWeights,
    duplicates: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LossParts:
    """The whole loss of a batch.

    Args:
        output: the forward pass of B aligned triples.
        duplicates: [B, B] bool from `duplicate_mask`.
        generator: source of the hard negatives' draw.
    """
    contrastive = contrastive_loss(
        output.image_features, output.text_features, output.logit_scale, duplicates
    )
    zero = contrastive.new_zeros(())
    auxiliary = (
        contrastive_loss(
            output.fused_image_features, output.fused_text_features, output.logit_scale, duplicates
        )
        if weights.auxiliary
        else zero
    )
    matching = zero
    if weights.matching:
        logits = pair_logits(output.image_features, output.text_features, output.logit_scale, duplicates)
        matching = matching_loss(model, output, hard_negatives(logits, generator))
    total = contrastive + weights.auxiliary * auxiliary + weights.matching * matching
    return LossParts(contrastive, auxiliary, matching, total)
