"""WiSE-FT: a straight line in weight space between the pretrained and the fine-tuned model.

Fine-tuning wins on its own data and loses elsewhere; a point between the two often keeps the gain and wins
the loss back. It costs nothing to serve, and alpha is chosen on validation data.

Source: Wortsman et al., arXiv:2109.01903, equation 1.
"""

from __future__ import annotations

import copy

import torch

from model.entityclip import EntityClip

_TOWERS = "backbone."


def interpolate(
    zero_shot: EntityClip, fine_tuned: EntityClip, alpha: float, *, fresh_heads: bool = True
) -> EntityClip:
    """Return θ = (1 − α) · zero_shot + α · fine_tuned, on the fine-tuned model's device, in eval mode.

    Args:
        zero_shot: what the fine-tuning started from, unchanged.
        alpha: 0 to 1; 1 is the fine-tuned model.
        fresh_heads: the zero-shot model's heads were untrained (`Checkpoint.fresh_heads`): the heads are then
            the fine-tuned ones, and only the towers and the logit scale are interpolated. False: all weights.

    Raises:
        ValueError: alpha is out of range, or the models are of different architectures.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha {alpha} is not between 0 (zero-shot) and 1 (fine-tuned)")
    start, end = zero_shot.state_dict(), fine_tuned.state_dict()
    names = [name for name in end if name.startswith(_TOWERS) or not fresh_heads]
    for name in names:
        if name not in start or start[name].shape != end[name].shape:
            raise ValueError(f"the two models are of different architectures: {name} differs")
    model = copy.deepcopy(fine_tuned)
    with torch.no_grad():
        weights = model.state_dict()
        for name in names:
            weights[name].copy_(torch.lerp(start[name].to(end[name]), end[name], alpha))
    return model.eval()
