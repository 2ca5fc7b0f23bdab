"""`entityclip train`: a recipe in, a checkpoint directory out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from model.data.prepared_form import FACTS_NAME
from model.data.readers import parse_spec
from model.device import choose_device
from model.entityclip import EntityClip
from model.training import flagnews_run
from model.training.batches import RankShare
from model.training.curves import draw_curves
from model.training.dataset_run import RunData, open_run_data
from model.training.loop import Trainer, check_shares
from model.training.recipe import FLAGNEWS, Recipe, load_recipe
from model.training.start import initial_model
from model.training.wise_ft import interpolate_and_validate
from model.world import World, open_world


def train(
    recipe_name: str,
    output: Path,
    *,
    cache: Path | None = None,
    changes: Mapping[str, object] | None = None,
    device: str | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Train, resuming what `output` holds.

    Args:
        recipe_name: a shipped recipe (`published`, `default`, `tiny-names`, `tiny`) or a TOML file.
        cache: where drawn pictures and prepared data sets are kept.
        changes: fields in place of the recipe's.
        device: torch device name; the GPU where there is one.
        announce: takes a line for the person who started the run.

    Returns:
        The best checkpoint's folder; None on all ranks but the first.

    Raises:
        ValueError: no such recipe, init, data set or device, or an invalid one; the output folder holds
            another run.
        TrainingError: the gradient stays not finite, or the device's memory is too small.
        PeerLost: another process of the run has ended.
    """
    recipe = load_recipe(recipe_name, changes)
    _check(recipe)
    with open_world(choose_device(device)) as (world, own_device):
        check_shares(recipe, world)
        with world.in_turn():
            recipe, model = initial_model(recipe)  # before anything is prepared: a wrong init fails at once
        run = _open(recipe, model, cache or flagnews_run.default_cache(), output, own_device, world)
        if world.is_first:
            for line in describe(run, own_device, world):
                announce(line)
        trainer = Trainer(
            run.recipe,
            run.data,
            output,
            run.validate,
            own_device,
            model=model,
            world=world,
            image_tokens=run.image_tokens,
        )
        trainer.run()
        if not world.is_first:
            return None
        draw_curves(output)
        return interpolate_and_validate(run.recipe, output, run.validate, own_device)


def describe(run: RunData, device: str, world: World) -> list[str]:
    """What a run is about to do, in lines for a person."""
    recipe, facts = run.recipe, run.data.facts()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    precision = "bf16 autocast, float32 weights" if recipe.precision == "bf16" else "float32"
    each = recipe.batch_size // world.size
    at_once = f", {recipe.micro_batch} at once" if 0 < recipe.micro_batch < each else ""
    processes = f", {world.size} processes with {each} each" if world.size > 1 else ""
    heads = recipe.optimizer.head_learning_rate
    rate = f"{recipe.optimizer.learning_rate:g}" + ("" if heads is None else f" (heads {heads:g})")
    if facts["name"] in recipe.optimizer.learning_rate_by_data:
        rate += f", this recipe's for {facts['name']}"
    size = f", {facts['rows']} rows of {facts['pictures']} pictures" if "rows" in facts else ""
    return [
        f"data: {facts['name']}{size}",
        f"device: {name}; {precision}",
        f"{recipe.steps} steps of {recipe.batch_size} rows{processes}{at_once}; "
        f"{recipe.optimizer.name}, learning rate {rate}",
    ]


def _check(recipe: Recipe) -> None:
    """Fail early where a data set's path is wrong, or it has no epochs."""
    if recipe.data == FLAGNEWS:
        if recipe.epochs:
            raise ValueError("FlagNews is drawn without end and has no epochs: give steps")
    elif not (Path(recipe.data) / FACTS_NAME).is_file():
        parse_spec(recipe.data)


def _open(recipe: Recipe, model: EntityClip, cache: Path, output: Path, device: str, world: World) -> RunData:
    if recipe.data != FLAGNEWS:
        return open_run_data(recipe, model, cache, output, device, world)
    with world.in_turn():
        data = flagnews_run.build_training(recipe, cache)
        validate = flagnews_run.build_validation(recipe, cache)
    return RunData(recipe, RankShare(data, world.rank, world.size), validate)
