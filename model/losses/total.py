"""EntityCLIP's training loss: L = L_VTC(V_cls, T_cls) + λ · L_VTC(V*, T*) + η · L_ITM.

Source: arXiv:2410.17810, section 3.4. Unlike the published code, a positive is never drawn as its own
negative, rows that share an image or a caption are no negatives of each other, and a wrong text is
pooled at its own EOT.

A run of several processes contrasts with the rows of all of them (`model.world`); hard negatives are drawn
within the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.entityclip import EntityClip, EntityClipOutput, normalise
from model.losses.contrastive import contrastive_loss, pair_logits
from model.losses.matching import HardNegatives, hard_negatives, matching_loss
from model.losses.pair_rows import PairRows
from model.losses.pairwise import pairwise_auxiliary_loss
from model.world import World

AuxiliaryNegatives = Literal["in-batch", "pairwise"]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """λ and η of the paper; 0 switches a term off (and its computation).

    Args:
        auxiliary: λ.
        matching: η.
        auxiliary_negatives: `in-batch` contrasts each image's V* under its own explanation, as published,
            which the explanation alone can solve; `pairwise` each image's V* under every text's explanation.
    """

    auxiliary: float = 0.1
    matching: float = 0.1
    auxiliary_negatives: AuxiliaryNegatives = "in-batch"

    @property
    def explained(self) -> bool:
        """Whether any term needs the explanations."""
        return bool(self.auxiliary or self.matching)


@dataclass(frozen=True, slots=True)
class LossParts:
    """The terms of one step, nats, unweighted but for the total. [] float32 each."""

    contrastive: Tensor
    auxiliary: Tensor
    matching: Tensor
    total: Tensor


def entityclip_loss(
    model: EntityClip,
    output: EntityClipOutput | PairRows,
    *,
    weights: LossWeights,
    duplicates: Tensor | None = None,
    generator: torch.Generator | None = None,
    negatives: HardNegatives | None = None,
    world: World | None = None,
    chunk: int = 0,
) -> LossParts:
    """The whole loss of this rank's B pairs; the mean over ranks is the loss of all of them.

    Args:
        output: the forward pass of B aligned triples.
        duplicates: [B, G] bool from `duplicate_mask`.
        generator: source of the hard negatives' draw.
        negatives: in place of a draw.
        chunk: see `matching_logits`.
    """
    world = world or World()
    pairs = output if isinstance(output, PairRows) else PairRows.of(output)
    image, text, scale = normalise(pairs.image), normalise(pairs.text), model.logit_scale()
    contrastive = contrastive_loss(image, text, scale, duplicates, world)
    auxiliary = matching = contrastive.new_zeros(())
    if weights.auxiliary and weights.auxiliary_negatives == "pairwise":
        auxiliary = pairwise_auxiliary_loss(model, pairs, duplicates, world)
    elif weights.auxiliary:
        rows = pairs.need_explained()
        auxiliary = contrastive_loss(rows.fused_image, rows.fused_text, scale, duplicates, world)
    if weights.matching:
        if negatives is None:
            own = None if duplicates is None else duplicates.chunk(world.size, dim=1)[world.rank]
            negatives = hard_negatives(pair_logits(image, text, scale, own), generator)
        matching = matching_loss(model, pairs, negatives, world, chunk)
    total = contrastive + weights.auxiliary * auxiliary + weights.matching * matching
    return LossParts(contrastive, auxiliary, matching, total)
