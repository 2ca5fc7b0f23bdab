"""The model that is measured: a checkpoint, or an architecture of open_clip's with random weights."""

from __future__ import annotations

import open_clip
import torch

from model.checkpoint import Checkpoint, load
from model.config import CheckpointConfig, ExpertConfig
from model.entityclip import EntityClip
from model.sources.openclip_config import read_architecture

RANDOM_ID = "random"


def open_model(name: str) -> Checkpoint:
    """Open a checkpoint or source, or build `name` with random weights where open_clip knows it as a model.

    Speed does not depend on the weights; the seed is always the same.

    Raises:
        CheckpointError: there is none, or EntityCLIP cannot use the architecture.
    """
    if name not in open_clip.list_models():
        return load(name)
    architecture = read_architecture(open_clip.get_model_config(name) or {}, name, ExpertConfig(1, 1, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = EntityClip(architecture).eval()
    return Checkpoint(model, CheckpointConfig(architecture=architecture), RANDOM_ID, fresh_heads=True)
