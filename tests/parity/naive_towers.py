"""OpenAI CLIP's two towers from a published state dict: plain tensor operations on the published names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]


def image_tokens(state: State, image: Tensor) -> Tensor:
    """All projected tokens, the class token first. [B, 3, S, S] -> [B, N, D]."""
    kernel = state["visual.conv1.weight"]
    patches = functional.conv2d(image, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(image), 1, -1)
    x = torch.cat([first, patches], dim=1) + state["visual.positional_embedding"]
    x = _norm(state, "visual.ln_pre", x)
    x = _blocks(state, "visual.transformer.resblocks", x, causal=False)
    return _norm(state, "visual.ln_post", x) @ state["visual.proj"]


def text_tokens(state: State, text: Tensor) -> Tensor:
    """All projected tokens. [B, L] -> [B, L, D]."""
    x = state["token_embedding.weight"][text] + state["positional_embedding"]
    x = _blocks(state, "transformer.resblocks", x, causal=True)
    return _norm(state, "ln_final", x) @ state["text_projection"]


def _blocks(state: State, name: str, x: Tensor, *, causal: bool) -> Tensor:
    index = 0
    while f"{name}.{index}.ln_1.weight" in state:
        block = f"{name}.{index}"
        x = x + _attention(state, f"{block}.attn", _norm(state, f"{block}.ln_1", x), causal=causal)
        wide = _linear(state, f"{block}.mlp.c_fc", _norm(state, f"{block}.ln_2", x))
        x = x + _linear(state, f"{block}.mlp.c_proj", wide * torch.sigmoid(1.702 * wide))
        index += 1
    return x


def _attention(state: State, name: str, x: Tensor, *, causal: bool) -> Tensor:
    """Multi-head attention, one head at a time, 64 channels a head and at least one head."""
    width = x.shape[-1]
    heads = max(1, width // 64)
    projected = x @ state[f"{name}.in_proj_weight"].T + state[f"{name}.in_proj_bias"]
    outputs = []
    for head in range(heads):
        query, key, value = (
            part[..., head * (width // heads) : (head + 1) * (width // heads)]
            for part in projected.chunk(3, -1)
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(width // heads)
        if causal:
            future = torch.ones(scores.shape[-2:]).triu(1).bool()
            scores = scores.masked_fill(future, -math.inf)
        outputs.append(scores.softmax(-1) @ value)
    return _linear(state, f"{name}.out_proj", torch.cat(outputs, -1))


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
