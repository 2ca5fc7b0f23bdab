"""The optimiser's parameter groups and the learning rate of a step."""

from __future__ import annotations

import math

import torch
from torch import nn

from model.entityclip import EntityClip
from model.training.recipe import OptimizerConfig


def build_optimizer(model: EntityClip, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser over towers and heads, with and without weight decay.

    Gains, biases, class token, positions and the logit scale are not decayed. Locked parameters are in no
    group and have no state.
    """
    head_rate = config.learning_rate if config.head_learning_rate is None else config.head_learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), _decays(name, parameter)), []).append(parameter)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(
        [
            {
                "params": parameters,
                "peak": config.learning_rate if is_tower else head_rate,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (is_tower, decays), parameters in groups.items()
        ],
        betas=(0.9, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    stacked_gain = parameter.ndim == 2 and name.rpartition(".")[2].startswith(
        ("norm", "query_bias", "value_bias")
    )
    plain_bias = name.endswith(("_bias", ".bias"))
    return parameter.ndim > 1 and not (stacked_gain or plain_bias or "positional_embedding" in name)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> float:
    """Set every group's rate for a step (from 0) and return it as a fraction of the peak."""
    fraction = rate_fraction(config, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * fraction
    return fraction


def rate_fraction(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then cosine to the final fraction."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config.final_fraction + (1 - config.final_fraction) * cosine
