"""An expert group of which only one direction of the output is wanted: weights folded once, a scalar a row.

The matching head looks at the experts' outputs through w = W_itm[0] − W_itm[1] alone, so with
h = x + W_o (W_v pool + b_v) + b_o and y = h + W_proj QuickGELU(W_fc LN2(h) + b_fc) + b_proj:

    w · y = w · h + (W_projᵀ w) · QuickGELU(…) + w · b_proj

W_projᵀ w is one vector, W_o W_v one matrix and so is W_kᵀ W_q; both norms' scales go into the matrices behind
them. A row costs half of what `ExpertGroup` costs, and the same to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.experts import ExpertGroup, at_least_float32, standardise


class ScalarExperts:
    """w · expert(row) of every expert of a group, for inference. A copy: later changes do not show.

    Args:
        group: of E experts, D wide.
        direction: [D], w.
    """

    def __init__(self, group: ExpertGroup, direction: Tensor) -> None:
        self._count, self._width = group.count, group.width
        like = direction.dtype
        weights = {name: weight.detach().double() for name, weight in group.named_parameters()}
        gain, shift = weights["norm1_weight"].unsqueeze(1), weights["norm1_bias"].unsqueeze(2)
        along = direction.detach().double()

        key = (weights["key_weight"] * gain).transpose(1, 2)  # [E, D, D]
        query_bias = weights["query_bias"].unsqueeze(2) + weights["query_weight"] @ shift  # [E, D, 1]
        self._score = (key @ (weights["query_weight"] * gain)).transpose(1, 2).to(like).contiguous()
        self._score_bias = (key @ query_bias).transpose(1, 2).to(like)  # [E, 1, D]

        value_bias = weights["value_bias"].unsqueeze(2) + weights["value_weight"] @ shift
        out = weights["out_weight"]
        self._value = (out @ (weights["value_weight"] * gain)).transpose(1, 2).to(like).contiguous()
        self._value_bias = (out @ value_bias).transpose(1, 2) + weights["out_bias"].unsqueeze(1)
        self._value_bias = self._value_bias.to(like)  # [E, 1, D]

        hidden = weights["fc_weight"] * weights["norm2_weight"].unsqueeze(1)  # [E, 4D, D]
        hidden_bias = weights["fc_bias"] + (weights["fc_weight"] @ weights["norm2_bias"].unsqueeze(2))[..., 0]
        self._hidden = hidden.transpose(1, 2).to(like).contiguous()
        self._hidden_bias = hidden_bias.unsqueeze(1).to(like)  # [E, 1, 4D]
        self._last = (weights["proj_weight"].transpose(1, 2) @ along).unsqueeze(2).to(like)  # [E, 4D, 1]
        self._last_bias = (weights["proj_bias"] @ along).to(like)  # [E]
        self._direction = along.to(like)

    @torch.no_grad()
    def __call__(self, rows: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run every expert on every row.

        Args:
            rows: [B, Q, D], not normalised.
            context: [B, N, D], the tokens attended to.
            mask: [B, N] bool, True where a token may be attended to; None for all.

        Returns:
            [B, Q, E] float, w · expert(row).
        """
        batch, queries, width = rows.shape
        flat = rows.reshape(1, batch * queries, width).expand(self._count, -1, -1)  # [E, B·Q, D]
        pooled = self._attend(standardise(flat), standardise(context), (batch, queries), mask)
        hidden = flat + torch.baddbmm(self._value_bias, pooled, self._value)
        wide = torch.baddbmm(self._hidden_bias, standardise(hidden), self._hidden)  # [E, B·Q, 4D]
        gated = torch.sigmoid(1.702 * wide).mul_(wide)  # QuickGELU
        scalars = torch.bmm(gated, self._last)[..., 0] + hidden @ self._direction  # [E, B·Q]
        return (scalars + self._last_bias.unsqueeze(1)).view(self._count, batch, queries).permute(1, 2, 0)

    def _attend(self, rows: Tensor, context: Tensor, shape: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Pool the standardised context by each expert's attention. [E, B·Q, D] -> [E, B·Q, D]."""
        (batch, queries), width = shape, self._width
        asked = torch.baddbmm(self._score_bias, rows, self._score) / math.sqrt(width)
        asked = asked.view(self._count, batch, queries, width).transpose(0, 1)  # [B, E, Q, D]
        asked = asked.reshape(batch, self._count * queries, width)
        scores = at_least_float32(torch.bmm(asked, context.transpose(1, 2)))  # [B, E·Q, N]
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
        pooled = torch.bmm(scores.softmax(dim=-1).to(context.dtype), context)  # [B, E·Q, D]
        pooled = pooled.view(batch, self._count, queries, width).transpose(0, 1)
        return pooled.reshape(self._count, batch * queries, width)
