"""What a run starts from: random weights, or those of `Recipe.init`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from model import checkpoint, openclip
from model.checkpoint import Checkpoint
from model.entityclip import EntityClip
from model.training.recipe import Recipe


def initial_model(recipe: Recipe) -> tuple[Recipe, EntityClip]:
    """Return the start weights, and the recipe with the architecture and preprocessing that they have.

    Raises:
        CheckpointError: the init cannot be read or fetched.
    """
    if recipe.init:
        start = load_init(recipe)
        config = start.config
        recipe = msgspec.structs.replace(
            recipe, architecture=config.architecture, preprocess=config.preprocess
        )
        return recipe, start.model
    if recipe.experts is not None:
        architecture = msgspec.structs.replace(recipe.architecture, experts=recipe.experts)
        recipe = msgspec.structs.replace(recipe, architecture=architecture)
    torch.manual_seed(recipe.seed)
    return recipe, EntityClip(recipe.architecture)


def load_init(recipe: Recipe) -> Checkpoint:
    """The model that a recipe starts from; a model with heads of its own keeps them.

    Raises:
        CheckpointError: it cannot be read or fetched.
    """
    experts = None if _has_heads(recipe.init) else recipe.experts
    return checkpoint.load(recipe.init, experts=experts, seed=recipe.seed)


def _has_heads(init: str) -> bool:
    folder = checkpoint.packaged(init) if init == checkpoint.TINY else Path(init)
    is_ours = (folder / checkpoint.CONFIG_NAME).is_file()
    return is_ours and not (folder / openclip.CONFIG_NAME).is_file()
