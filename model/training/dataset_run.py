"""A run on a data set, put together: prepared splits, batches, validation, cached image tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model.data.prepare import resolve_prepared
from model.data.prepared import open_prepared
from model.data.training_set import PreparedTraining
from model.entityclip import EntityClip
from model.training.batches import TrainingData
from model.training.image_cache import shared_image_cache
from model.training.recipe import Recipe
from model.training.step import ImageTokens
from model.training.validation import recall_on
from model.world import World


@dataclass(frozen=True, slots=True)
class RunData:
    """What a trainer needs beside the model.

    Args:
        recipe: with its length in steps and the learning rate of the data set.
        image_tokens: where the image tower is locked and pictures are stored.
    """

    recipe: Recipe
    data: TrainingData
    validate: Callable[[EntityClip], dict[str, float]]
    image_tokens: ImageTokens | None = None


def open_run_data(
    recipe: Recipe, model: EntityClip, cache: Path, output: Path, device: str, world: World
) -> RunData:
    """Prepare the data set if need be and open it.

    Args:
        recipe: with the model's architecture and preprocessing.
        cache: where data sets are prepared.
        output: the run's folder; image tokens are cached below it.

    Raises:
        DataError: the data set cannot be read, or has too few rows for a batch or none for validation.
        ValueError: a locked image tower with random crops.
    """
    if recipe.lock_image and recipe.crop_scale < 1:
        raise ValueError("lock_image caches each picture's tokens once: it cannot go with crop_scale below 1")
    with world.in_turn():
        folder = resolve_prepared(recipe.data, cache)
    train, val = (open_prepared(folder, name) for name in ("train", "val"))
    recipe = msgspec.structs.replace(recipe, optimizer=recipe.optimizer.for_data(train.dataset))
    data = PreparedTraining(
        train,
        recipe.architecture.vision.image_size,
        recipe.preprocess.resize_mode,
        recipe.batch_size,
        recipe.seed,
        recipe.explanation_dropout,
        recipe.text,
        world.rank,
        world.size,
        crop_scale=recipe.crop_scale,
        decode=not recipe.lock_image,
    )
    steps = recipe.steps or max(1, round(recipe.epochs * data.steps_per_epoch))
    recipe = msgspec.structs.replace(recipe, steps=steps, epochs=0)
    validate = recall_on(val, recipe, device)
    tokens = None
    if recipe.lock_image:
        tokens = shared_image_cache(output / "cache", model, train, recipe.preprocess, device, world)
    return RunData(recipe, data, validate, tokens)
