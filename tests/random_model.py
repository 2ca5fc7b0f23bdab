"""A small checkpoint with random weights, built in no time."""

from __future__ import annotations

from pathlib import Path


def random_model(folder: Path, seed: int, *, image_size: int = 32, dim: int = 32) -> str:
    """Write one that calls nearly every pair a match, since random vectors say nothing; gives its id."""
    import torch

    from model.checkpoint import model_id, save
    from model.config import (
        ArchitectureConfig,
        CheckpointConfig,
        ExpertConfig,
        MatchingConfig,
        TextConfig,
        VisionConfig,
    )
    from model.entityclip import EntityClip

    architecture = ArchitectureConfig(
        embed_dim=dim,
        vision=VisionConfig(image_size=image_size, patch_size=16, width=64, layers=1),
        text=TextConfig(width=64, heads=1, layers=1, vocab_size=1024, context_length=32),
        experts=ExpertConfig(1, 1, 1),
    )
    torch.manual_seed(seed)
    matching = MatchingConfig(intercept=2.0, weights={"cosine": 1.0}, threshold=0.5)
    save(folder, EntityClip(architecture), CheckpointConfig(architecture=architecture, matching=matching))
    return model_id(folder)
