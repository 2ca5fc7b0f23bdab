"""`entityclip train`: a recipe in, a checkpoint directory out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from model.training import flagnews_run
from model.training.loop import Trainer
from model.training.recipe import load_recipe


def train(
    recipe_name: str,
    output: Path,
    *,
    cache: Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Path:
    """Train, resuming what `output` holds, and return the best checkpoint's folder.

    Args:
        recipe_name: a shipped recipe (`tiny`) or a TOML file.
        cache: where drawn pictures are kept.
        steps, seed: in place of the recipe's.
        device: torch device name; the GPU where there is one.

    Raises:
        ValueError: no such recipe, or an invalid one.
        TrainingError: the loss does not stay finite.
    """
    changes = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    recipe = msgspec.structs.replace(load_recipe(recipe_name), **changes)
    cache = cache or flagnews_run.default_cache()
    data = flagnews_run.build_training(recipe, cache)
    validate = flagnews_run.build_validation(recipe, cache)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Trainer(recipe, data, output, validate, device).run()
