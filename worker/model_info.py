"""What a checkpoint says about itself, read without its weights."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import MatchingConfig
from worker.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A checkpoint.

    Args:
        id: `model.checkpoint.model_id`; names the model in stores and matches.
        dim: of its vectors.
    """

    id: str
    dim: int
    matching: MatchingConfig


def read_model(model: str) -> ModelInfo:
    """Look at a checkpoint; blocks for as long as hashing its files takes.

    Args:
        model: its folder, or `tiny`.

    Raises:
        ConfigError: there is none.
    """
    from model.checkpoint import CheckpointError, model_id, read_config, resolve  # torch takes seconds

    try:
        folder = resolve(model)
        config = read_config(folder)
        id_ = model_id(folder)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    return ModelInfo(id_, config.architecture.embed_dim, config.matching)
