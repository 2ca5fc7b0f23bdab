"""The two towers as they serve: the same weights as open_clip's modules, fewer operations, lower precision.

Against the modules' own forward pass:

- the last block works on the one row that is pooled (class token, EOT); nobody reads its others,
- attention is one call of `scaled_dot_product_attention`, causal without a mask in memory,
- matrix products may run in half precision; residual stream, norms and the last projection stay in float32,
  which keeps twice as many digits as a model cast as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from model import backbone as backbone_module
from model.backbone import eot_index, take_rows

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_QUICK = 1.702  # QuickGELU(x) = x · sigmoid(1.702 x) = silu(1.702 x) / 1.702


class Towers(Protocol):
    """Inference through both towers. Thread-safe."""

    precision: Precision

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] float, normalised -> [B, D] float, projected, not normalised."""

    def text_features(self, text: Tensor) -> Tensor:
        """[B, L] int64 token ids, L up to the context -> [B, D] float, projected, not normalised."""


def serving_towers(backbone: CLIP, precision: Precision = "fp32") -> Towers:
    """The quickest towers there are for a backbone: `ServingTowers`, or its own where it is built otherwise.

    Args:
        backbone: in eval mode, on its device.
        precision: what is wanted; open_clip's own forward pass stays in float32.
    """
    blocks = (*backbone.visual.transformer.resblocks, *backbone.transformer.resblocks)
    return ServingTowers(backbone, precision) if all(map(_is_plain, blocks)) else ModuleTowers(backbone)


class ModuleTowers:
    """open_clip's own forward pass."""

    precision: Precision = "fp32"

    def __init__(self, backbone: CLIP) -> None:
        self.image_features = partial(backbone_module.image_features, backbone)
        self.text_features = partial(backbone_module.text_features, backbone)


class ServingTowers:
    """Image and text tower for inference. Thread-safe: nothing is changed once it is made.

    Args:
        backbone: in eval mode, on its device; its float32 weights are used as they are, those of the matrix
            products copied where the precision is lower. Later changes of them need not show.
        precision: of the matrix products.
    """

    def __init__(self, backbone: CLIP, precision: Precision = "fp32") -> None:
        visual, dtype = backbone.visual, DTYPES[precision]
        self.precision: Precision = precision
        self._backbone, self._dtype = backbone, dtype
        self._image_blocks = [_block(module, dtype) for module in visual.transformer.resblocks]
        self._text_blocks = [_block(module, dtype) for module in backbone.transformer.resblocks]
        self._patches = visual.conv1.weight.detach().to(dtype)
        self._stride = visual.conv1.stride

    def image_features(self, image: Tensor) -> Tensor:
        """Encode images to their class token.

        Args:
            image: [B, 3, S, S] float, normalised.

        Returns:
            [B, D] float32, projected, not normalised.
        """
        visual = self._backbone.visual
        patches = functional.conv2d(image.to(self._dtype), self._patches, stride=self._stride)
        x = patches.flatten(2).transpose(1, 2).float()  # [B, N-1, W]
        start = visual.class_embedding.expand(len(x), 1, -1)
        x = visual.ln_pre(torch.cat([start, x], dim=1) + visual.positional_embedding)
        row = torch.zeros(len(x), dtype=torch.long, device=x.device)
        pooled = visual.ln_post(_run(self._image_blocks, x, row, causal=False))
        features: Tensor = pooled @ visual.proj
        return features

    def text_features(self, text: Tensor) -> Tensor:
        """Encode texts to the row at their EOT.

        Args:
            text: [B, L] int64 token ids, L up to the context.

        Returns:
            [B, D] float32, projected, not normalised.
        """
        backbone = self._backbone
        x = backbone.token_embedding(text) + backbone.positional_embedding[: text.shape[1]]
        row = backbone.ln_final(_run(self._text_blocks, x, eot_index(text), causal=True))
        features: Tensor = row @ backbone.text_projection
        return features


@dataclass(frozen=True, slots=True)
class _Block:
    """One pre-norm transformer block; weights and biases of its four matrix products."""

    ln_1: nn.LayerNorm
    ln_2: nn.LayerNorm
    heads: int
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    activation: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, *, causal: bool) -> Tensor:
        """[B, L, W] float32 -> the same."""
        q, k, v = self._heads(functional.linear(self._half(self.ln_1(x)), *self.qkv), 3)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self._feed_forward(x + self._merged(mixed))

    def pool(self, x: Tensor, row: Tensor, *, causal: bool) -> Tensor:
        """The block's output at one row of each sequence. [B, L, W], [B] int64 -> [B, W]."""
        width = x.shape[-1]
        weight, bias = self.qkv
        normed = self._half(self.ln_1(x))
        (q,) = self._heads(
            functional.linear(take_rows(normed, row).unsqueeze(1), weight[:width], bias[:width]), 1
        )
        k, v = self._heads(functional.linear(normed, weight[width:], bias[width:]), 2)
        mask = None
        if causal:
            place = torch.arange(x.shape[1], device=x.device)
            mask = (place <= row.unsqueeze(1))[:, None, None]  # [B, 1, 1, L]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._feed_forward(take_rows(x, row) + self._merged(mixed).squeeze(1))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(functional.linear(self._half(self.ln_2(x)), *self.up))
        return x + functional.linear(hidden, *self.down)

    def _half(self, x: Tensor) -> Tensor:
        return x.to(self.qkv[0].dtype)

    def _heads(self, x: Tensor, parts: int) -> Sequence[Tensor]:
        """[B, L, parts · W] -> parts of [B, heads, L, W / heads]."""
        split = x.view(*x.shape[:2], parts, self.heads, -1)  # [B, L, parts, H, W / H]
        return split.permute(2, 0, 3, 1, 4).unbind(0)

    def _merged(self, x: Tensor) -> Tensor:
        """[B, heads, L, W / heads] -> [B, L, W] through the output projection."""
        return functional.linear(x.transpose(1, 2).flatten(2), *self.out)


def _run(blocks: Sequence[_Block], x: Tensor, row: Tensor, *, causal: bool) -> Tensor:
    """All blocks, the last one at the pooled row alone. [B, L, W], [B] -> [B, W] float32."""
    for block in blocks[:-1]:
        x = block(x, causal=causal)
    return blocks[-1].pool(x, row, causal=causal)


def _is_plain(module: Any) -> bool:
    return type(module) is ResidualAttentionBlock and isinstance(module.ls_1, nn.Identity)


def _block(module: Any, dtype: torch.dtype) -> _Block:
    attention = module.attn
    up, down, activation = _feed_forward(module.mlp, dtype)
    return _Block(
        module.ln_1,
        module.ln_2,
        attention.num_heads,
        qkv=_cast(attention.in_proj_weight, attention.in_proj_bias, dtype),
        out=_cast(attention.out_proj.weight, attention.out_proj.bias, dtype),
        up=up,
        down=down,
        activation=activation,
    )


def _feed_forward(
    mlp: Any, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    """Both weights and what stands between them."""
    up, activation, down = mlp.c_fc, mlp.gelu, mlp.c_proj
    if isinstance(activation, QuickGELU) and dtype != torch.float32:
        # into the weights, which are copied anyway: one pass over the hidden layer, not three
        return (
            _cast(up.weight * _QUICK, up.bias * _QUICK, dtype),
            _cast(down.weight / _QUICK, down.bias, dtype),
            lambda x: functional.silu(x, inplace=True),
        )
    return (
        _cast(up.weight, up.bias, dtype),
        _cast(down.weight, down.bias, dtype),
        activation,
    )


def _cast(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return weight.detach().to(dtype), bias.detach().to(dtype)
