"""The auxiliary loss over pairs: every image under every text's explanation.

In the published loss V* and T* of a pair both read the pair's own explanation, which alone gives the pair
away. Here it cannot: the images that a text is compared with have all read its explanation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.entityclip import EntityClip, normalise
from model.experts import at_least_float32
from model.losses.contrastive import two_way
from model.losses.matching import computed_again
from model.losses.pair_rows import PairRows
from model.world import World

_PAIRS_AT_ONCE = 1 << 14  # through the experts: about 2 GB at D = 512 and 4 experts


def pairwise_auxiliary_loss(
    model: EntityClip, pairs: PairRows, duplicates: Tensor | None = None, world: World | None = None
) -> Tensor:
    """L_VTC(V*, T*) with every image under every text's explanation: no explanation gives its pair away.

    Args:
        duplicates: [B, G] bool from `duplicate_mask`.

    Returns:
        [] float32 or better, nats, over this rank's rows.
    """
    world, rows = world or World(), pairs.need_explained()
    images, experts = world.gather(pairs.image), world.gather(rows.experts.image)  # [G, D], [G, Ei, D]
    scale = model.logit_scale()

    def scores(images: Tensor, experts: Tensor, tokens: Tensor, eot: Tensor, fused_text: Tensor) -> Tensor:
        fused = fused_under(model, images, experts, tokens, eot)  # [C, G, D]
        with torch.autocast(fused.device.type, enabled=False):
            return scale * torch.einsum("cgd,cd->cg", fused, fused_text)

    chunk = max(1, _PAIRS_AT_ONCE // len(images))
    parts = list(
        zip(*(torch.split(part, chunk) for part in (rows.tokens, rows.eot, rows.fused_text)), strict=True)
    )
    if len(parts) == 1:
        text_logits = scores(images, experts, *parts[0])
    else:
        text_logits = torch.cat([computed_again(scores, images, experts, *part) for part in parts])  # [B, G]
    image_logits = world.gather(text_logits).T.chunk(world.size)[world.rank]  # [B, G]
    if duplicates is not None:
        image_logits = image_logits.masked_fill(duplicates, -math.inf)
        text_logits = text_logits.masked_fill(duplicates, -math.inf)
    return two_way(image_logits, text_logits, world)


def fused_under(model: EntityClip, images: Tensor, experts: Tensor, tokens: Tensor, eot: Tensor) -> Tensor:
    """V* of every image under every explanation.

    Args:
        images: [G, D], V_cls; experts: [G, Ei, D], image experts on them.
        tokens: [C, L, D], eot: [C]; the explanations'.

    Returns:
        [C, G, D] float32 or better, L2-normalised.
    """
    count = len(tokens)
    explained = model.explanation_experts(
        images.expand(count, *images.shape), tokens, model.mask(tokens, eot)
    )  # [C, G, Ee, D]
    outputs = torch.cat([experts.expand(count, *experts.shape), explained], dim=2)
    gate = at_least_float32(model.image_gate(images)).softmax(dim=-1)  # [G, Ei + Ee]
    with torch.autocast(images.device.type, enabled=False):
        return normalise(torch.einsum("ge,cged->cgd", gate, at_least_float32(outputs)))
