"""What a run starts from: random weights, or those of `Recipe.init`."""

from __future__ import annotations

import msgspec
import torch

from model import checkpoint
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
    return checkpoint.load(recipe.init, experts=recipe.experts, seed=recipe.seed)
