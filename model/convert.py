"""`entityclip convert`: published weights into a checkpoint directory."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from model import checkpoint
from model.config import CheckpointConfig
from model.published import load_published


def convert(source: Path, output: Path, experts: str = "444") -> None:
    """Read a published `.pt` state dict and write a checkpoint directory.

    Args:
        source: a state dict, bare or under `state_dict` / `model`; only tensors are unpickled.
        experts: three digits, image / explanation / text experts.

    Raises:
        ValueError: no such file, more than tensors in it, or no EntityCLIP's weights; in one line.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise ValueError(f"{source}: {exc.strerror}") from exc
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as exc:
        # torch's own words would advise to load it unsafely
        raise ValueError(f"{source} is no file of plain tensors") from exc
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{source} holds no state dict")
    model = load_published(state, experts)
    training: dict[str, object] = {"converted_from": source.name}
    checkpoint.save(output, model, CheckpointConfig(architecture=model.config, training=training))
