"""Multimodal attentive experts, computed for the one row that is used.

An expert is a pre-norm transformer block, one head wide, in which x attends to y:

    h = x + MHA(q=LN1(x), k=v=LN1(y));  expert(x, y) = h + MLP(LN2(h))

Only the class / EOT row of x is ever used, so only its query is computed. With one head and one query
the key projection folds into the query (a constant per query drops out of the softmax), and since the
attention weights sum to one the value projection can follow the pooling. Keys and values of y are
never projected; y is normalised once for all experts of a group.

Source: EntityCLIP, arXiv:2410.17810, section 3.2; `tests/reference.py` has the plain form.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-5


class ExpertGroup(nn.Module):
    """E experts of one kind with stacked weights.

    Args:
        count: E, may be 0.
        width: D.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count, self.width = count, width
        wide = 4 * width

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(count, rows, columns) * columns**-0.5)

        def bias(size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(count, size))

        self.norm1_weight, self.norm1_bias = nn.Parameter(torch.ones(count, width)), bias(width)
        self.query_weight, self.query_bias = weight(width, width), bias(width)
        self.key_weight = weight(width, width)  # its bias shifts all scores of a query alike: no effect
        self.value_weight, self.value_bias = weight(width, width), bias(width)
        self.out_weight, self.out_bias = weight(width, width), bias(width)
        self.norm2_weight, self.norm2_bias = nn.Parameter(torch.ones(count, width)), bias(width)
        self.fc_weight, self.fc_bias = weight(wide, width), bias(wide)
        self.proj_weight, self.proj_bias = weight(width, wide), bias(width)

    def forward(self, rows: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run every expert on every row.

        Args:
            rows: [B, Q, D], the class or EOT tokens (x), not normalised.
            context: [B, N, D], the tokens attended to (y).
            mask: [B, N] bool, True where a token may be attended to; None for all. Each row needs one True.

        Returns:
            [B, Q, E, D] float, in the type of `rows`.
        """
        pooled = self._attend(rows, standardise(context), mask)  # [E, B·Q, D]
        batch, queries, width = rows.shape
        hidden = rows.reshape(1, batch * queries, width) + _linear(pooled, self.out_weight, self.out_bias)
        normed = _affine(standardise(hidden), self.norm2_weight, self.norm2_bias)
        wide = _quick_gelu(_linear(normed, self.fc_weight, self.fc_bias))  # [E, B·Q, 4D]
        out = hidden + _linear(wide, self.proj_weight, self.proj_bias)
        return out.view(self.count, batch, queries, width).permute(1, 2, 0, 3)  # [B, Q, E, D]

    def _attend(self, rows: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Attention with folded keys and values; `context` is standardised. Returns [E, B·Q, D]."""
        batch, queries, width = rows.shape
        normed = _affine(
            standardise(rows).reshape(1, batch * queries, width), self.norm1_weight, self.norm1_bias
        )
        query = _linear(normed, self.query_weight, self.query_bias)  # [E, B·Q, D]
        folded = torch.bmm(query, self.key_weight) * self.norm1_weight.unsqueeze(1)  # u = γ ⊙ W_kᵀ q
        folded = folded.view(self.count, batch, queries, width).permute(1, 2, 0, 3)
        folded = folded.reshape(batch, queries * self.count, width) / math.sqrt(width)
        scores = at_least_float32(torch.bmm(folded, context.transpose(1, 2)))  # [B, Q·E, N]
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
        weights = scores.softmax(dim=-1).to(context.dtype)
        pooled = torch.bmm(weights, context).view(batch, queries, self.count, width)
        pooled = pooled.permute(2, 0, 1, 3).reshape(self.count, batch * queries, width)
        return _linear(
            _affine(pooled, self.norm1_weight, self.norm1_bias), self.value_weight, self.value_bias
        )


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision; what must not be rounded (softmaxes, norms, logits) goes through here."""
    return x.float() if x.dtype.itemsize < torch.float32.itemsize else x


def standardise(x: Tensor) -> Tensor:
    """LayerNorm without its affine part, over the last axis."""
    return functional.layer_norm(x, x.shape[-1:], eps=_EPS)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[E or 1, M, D] · [E, D] + [E, D] -> [E, M, D]."""
    return x * weight.unsqueeze(1) + bias.unsqueeze(1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[E, M, I], [E, O, I], [E, O] -> [E, M, O]."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)
