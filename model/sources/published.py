"""The published EntityCLIP state dict, read into our model.

Names: OpenAI CLIP's own, plus `vision_expert_{i}`, `share_expert_{i}`, `text_expert_{i}`, `weight_attn_vis`,
`weight_attn_txt`, `weight_full`, `itm_head`. The architecture is read from the shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.sources.weights import load_exactly, plain_weights

_GROUPS = {
    "vision_expert": "image_experts",
    "share_expert": "explanation_experts",
    "text_expert": "text_experts",
}
_HEADS = {
    "weight_attn_vis": "image_gate",
    "weight_attn_txt": "text_gate",
    "weight_full": "pair_gate",
    "itm_head": "itm_head",
}
_EXPERT = re.compile(r"(vision_expert|share_expert|text_expert)_(\d+)\.(.+)")
_STACKED = {
    "attn.out_proj.weight": "out_weight",
    "attn.out_proj.bias": "out_bias",
    "ln_1.weight": "norm1_weight",
    "ln_1.bias": "norm1_bias",
    "ln_2.weight": "norm2_weight",
    "ln_2.bias": "norm2_bias",
    "mlp.c_fc.weight": "fc_weight",
    "mlp.c_fc.bias": "fc_bias",
    "mlp.c_proj.weight": "proj_weight",
    "mlp.c_proj.bias": "proj_bias",
}
_HEAD_WIDTH = 64  # of the towers' attention; the weights do not show it
_WHAT = "not a published EntityCLIP"


def load_published(
    state_dict: Mapping[str, Tensor], expert_config: str | Sequence[int] | None = None
) -> EntityClip:
    """Read published weights into an EntityCLIP, float32, eval mode.

    Args:
        state_dict: the published names; a `module.` prefix of data-parallel training and the scalars of
            OpenAI's archives are removed, half precision is widened.
        expert_config: image / explanation / text experts, checked against the weights: `444`, `12,4,4` where
            a digit is not enough, or three numbers. None takes what the weights hold.

    Raises:
        ValueError: names or shapes that are no published EntityCLIP's, in one line.
    """
    weights = plain_weights(state_dict)
    architecture = _architecture(weights, _expert_counts(weights, expert_config))
    model = EntityClip(architecture)
    # a group without experts has no published names; ours are of size 0
    empty = {name: tensor for name, tensor in model.state_dict().items() if not tensor.numel()}
    load_exactly(model, empty | _rename(weights), _WHAT)
    return model.eval()


def read_expert_counts(expert_config: str | Sequence[int]) -> tuple[int, int, int]:
    """Return image, explanation and text experts of `444`, `12,4,4` or three numbers.

    Raises:
        ValueError: neither of them.
    """
    if isinstance(expert_config, str):
        parts = expert_config.split(",") if "," in expert_config else list(expert_config)
        counts = [int(part) if re.fullmatch(r"[0-9]+", part.strip()) else -1 for part in parts]
    else:
        counts = list(expert_config)
    if len(counts) != len(_GROUPS) or min(counts) < 0:
        raise ValueError(
            f"expert configuration {expert_config!r} is not three counts (image, explanation, text), "
            "such as 444 or 12,4,4"
        )
    image, explanation, text = counts
    return image, explanation, text


def _expert_counts(
    weights: Mapping[str, Tensor], expert_config: str | Sequence[int] | None
) -> tuple[int, int, int]:
    image, explanation, text = (_count(weights, rf"{group}_(\d+)\.") for group in _GROUPS)
    found = (image, explanation, text)
    if expert_config is not None and read_expert_counts(expert_config) != found:
        raise ValueError(f"the weights hold {_written(found)} experts, not {_written(expert_config)}")
    return found


def _written(expert_config: str | Sequence[int]) -> str:
    if isinstance(expert_config, str):
        return expert_config
    return ("" if max(expert_config) < 10 else ",").join(map(str, expert_config))


def _architecture(weights: Mapping[str, Tensor], experts: tuple[int, int, int]) -> ArchitectureConfig:
    width, _, patch_size, _ = _shape(weights, "visual.conv1.weight", 4)
    positions, _ = _shape(weights, "visual.positional_embedding", 2)
    grid = math.isqrt(positions - 1)
    if grid * grid != positions - 1:
        raise ValueError(f"{_WHAT}: {positions} image positions are no class token and a square of patches")
    vocab_size, text_width = _shape(weights, "token_embedding.weight", 2)
    context_length, _ = _shape(weights, "positional_embedding", 2)
    return ArchitectureConfig(
        embed_dim=_shape(weights, "text_projection", 2)[1],
        vision=VisionConfig(
            image_size=grid * patch_size,
            patch_size=patch_size,
            width=width,
            layers=_count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
            head_width=width // _heads(width, "image"),
        ),
        text=TextConfig(
            width=text_width,
            heads=_heads(text_width, "text"),
            layers=_count(weights, r"transformer\.resblocks\.(\d+)\."),
            vocab_size=vocab_size,
            context_length=context_length,
        ),
        experts=ExpertConfig(*experts, attend_padding=True),
    )


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise ValueError(f"{_WHAT}: {name} is missing")
    shape = tuple(weights[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"{_WHAT}: {name} has the shape {list(shape)}")
    return shape


def _heads(width: int, tower: str) -> int:
    """As OpenAI's CLIP counts them: 64 channels to a head, but at least one head."""
    heads = max(1, width // _HEAD_WIDTH)
    if width % heads:
        raise ValueError(f"{_WHAT}: the {tower} tower's {width} channels do not divide into {heads} heads")
    return heads


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers the pattern finds, which have to be 0, 1, 2 …

    Raises:
        ValueError: one of them is missing.
    """
    found = {int(match[1]) for name in weights if (match := re.match(pattern, name))}
    if found and max(found) + 1 != len(found):
        lacking = min(set(range(max(found))) - found)
        raise ValueError(f"{_WHAT}: {pattern.replace(chr(92), '').replace('(d+)', str(lacking))} is missing")
    return len(found)


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in weights.items():
        head, _, rest = name.partition(".")
        if match := _EXPERT.fullmatch(name):
            for part, value in _expert_parts(match[3], tensor):
                experts.setdefault(f"{_GROUPS[match[1]]}.{part}", {})[int(match[2])] = value
        elif head in _HEADS:
            renamed[f"{_HEADS[head]}.{rest}"] = tensor
        else:
            renamed[f"backbone.{name}"] = tensor
    for name, by_index in experts.items():
        renamed[name] = _stack(name, [by_index[index] for index in sorted(by_index)])
    return renamed


def _stack(name: str, tensors: list[Tensor]) -> Tensor:
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"{_WHAT}: the experts' {name} are of different shapes")
    return torch.stack(tensors)


def _expert_parts(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Split the fused input projection; the key's bias has no effect and goes."""
    if name.startswith("attn.in_proj") and (not tensor.ndim or len(tensor) % 3):
        raise ValueError(f"{_WHAT}: an expert's {name} has the shape {list(tensor.shape)}")
    if name == "attn.in_proj_weight":
        return list(zip(("query_weight", "key_weight", "value_weight"), tensor.chunk(3), strict=True))
    if name == "attn.in_proj_bias":
        query, _, value = tensor.chunk(3)
        return [("query_bias", query), ("value_bias", value)]
    if name not in _STACKED:
        raise ValueError(f"{_WHAT}: an expert has an unknown part {name}")
    return [(_STACKED[name], tensor)]
