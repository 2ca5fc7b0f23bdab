"""Plain forms of the fast code: slow, obvious, and what the tests hold the fast code to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.experts import ExpertGroup


def expert_rows(group: ExpertGroup, index: int, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """One expert as the paper writes it, for every row of x: keys and values of y projected in full.

    Shapes: x [B, M, D], y [B, N, D], mask [B, N] bool -> [B, M, D].
    """
    width = group.width
    gain, shift = group.norm1_weight[index], group.norm1_bias[index]
    normed_x = functional.layer_norm(x, (width,), gain, shift)
    normed_y = functional.layer_norm(y, (width,), gain, shift)
    query = normed_x @ group.query_weight[index].T + group.query_bias[index]
    key = normed_y @ group.key_weight[index].T
    value = normed_y @ group.value_weight[index].T + group.value_bias[index]
    scores = query @ key.transpose(1, 2) / math.sqrt(width)  # [B, M, N]
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
    attended = scores.softmax(-1) @ value
    hidden = x + attended @ group.out_weight[index].T + group.out_bias[index]
    normed = functional.layer_norm(hidden, (width,), group.norm2_weight[index], group.norm2_bias[index])
    wide = normed @ group.fc_weight[index].T + group.fc_bias[index]
    wide = wide * torch.sigmoid(1.702 * wide)
    return hidden + wide @ group.proj_weight[index].T + group.proj_bias[index]


def contrastive_loss(image: Tensor, text: Tensor, scale: float, duplicates: Tensor) -> float:
    """Symmetric cross-entropy, one pair at a time."""
    count = len(image)
    total = 0.0
    for i in range(count):
        own = float(scale * image[i] @ text[i])
        for left, right in ((image, text), (text, image)):
            logits = [float(scale * left[i] @ right[j]) for j in range(count) if not bool(duplicates[i, j])]
            total += math.log(sum(math.exp(value) for value in logits)) - own
    return total / (2 * count)


def ranks(scores: list[list[float]]) -> list[int]:
    """Strict ranks of the diagonal: how many candidates score at least as much as the right one."""
    return [sum(value >= row[index] for value in row) for index, row in enumerate(scores)]
