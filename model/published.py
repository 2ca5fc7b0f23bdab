"""The published EntityCLIP state dict, read into our model.

Names: OpenAI CLIP's own, plus `vision_expert_{i}`, `share_expert_{i}`, `text_expert_{i}`, `weight_attn_vis`,
`weight_attn_txt`, `weight_full`, `itm_head`. The architecture is read from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip

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
_CLIP_FACTS = {"input_resolution", "context_length", "vocab_size"}  # scalars of OpenAI's archives


def load_published(state_dict: Mapping[str, Tensor], expert_config: str = "444") -> EntityClip:
    """Read published weights into an EntityCLIP, float32, eval mode.

    Args:
        state_dict: the published names; a `module.` prefix of data-parallel training is removed.
        expert_config: three digits, image / explanation / text experts, checked against the weights.

    Raises:
        ValueError: names or shapes that are no published EntityCLIP's, in one line.
    """
    weights = {name.removeprefix("module."): tensor.float() for name, tensor in state_dict.items()}
    weights = {name: tensor for name, tensor in weights.items() if name not in _CLIP_FACTS}
    architecture = _architecture(weights, expert_config)
    model = EntityClip(architecture)
    result = model.load_state_dict(_rename(weights), strict=False)
    if result.missing_keys or result.unexpected_keys:
        raise ValueError(
            f"not a published EntityCLIP: {_sample(result.missing_keys, result.unexpected_keys)}"
        )
    return model.eval()


def _sample(missing: list[str], unexpected: list[str]) -> str:
    return f"missing {missing[:3]}, unexpected {unexpected[:3]}"


def _architecture(weights: Mapping[str, Tensor], expert_config: str) -> ArchitectureConfig:
    try:
        conv = weights["visual.conv1.weight"]  # [W, 3, P, P]
        grid = round((weights["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        text_width = weights["ln_final.weight"].shape[0]
        return ArchitectureConfig(
            embed_dim=weights["text_projection"].shape[1],
            vision=VisionConfig(
                image_size=grid * conv.shape[-1],
                patch_size=conv.shape[-1],
                width=conv.shape[0],
                layers=_count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
            ),
            text=TextConfig(
                width=text_width,
                heads=max(1, text_width // 64),
                layers=_count(weights, r"transformer\.resblocks\.(\d+)\."),
                vocab_size=weights["token_embedding.weight"].shape[0],
                context_length=weights["positional_embedding"].shape[0],
            ),
            experts=_experts(weights, expert_config),
        )
    except KeyError as exc:
        raise ValueError(f"not a published EntityCLIP: {exc.args[0]} is missing") from exc


def _experts(weights: Mapping[str, Tensor], expert_config: str) -> ExpertConfig:
    if not re.fullmatch(r"\d{3}", expert_config):
        raise ValueError(
            f"expert configuration {expert_config!r} is not three digits (image, explanation, text)"
        )
    image, explanation, text = (_count(weights, rf"{group}_(\d+)\.") for group in _GROUPS)
    found = f"{image}{explanation}{text}"
    if found != expert_config:
        raise ValueError(f"the weights hold {found} experts, not {expert_config}")
    return ExpertConfig(image=image, explanation=explanation, text=text, attend_padding=True)


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number the pattern finds."""
    return 1 + max((int(m[1]) for name in weights if (m := re.match(pattern, name))), default=-1)


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
        renamed[name] = torch.stack([by_index[index] for index in sorted(by_index)])
    return renamed


def _expert_parts(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Split the fused input projection; the key's bias has no effect and goes."""
    if name == "attn.in_proj_weight":
        return list(zip(("query_weight", "key_weight", "value_weight"), tensor.chunk(3), strict=True))
    if name == "attn.in_proj_bias":
        query, _, value = tensor.chunk(3)
        return [("query_bias", query), ("value_bias", value)]
    if name not in _STACKED:
        raise ValueError(f"not a published EntityCLIP: an expert has an unknown part {name}")
    return [(_STACKED[name], tensor)]
