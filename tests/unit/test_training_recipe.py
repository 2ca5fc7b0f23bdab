"""Recipes: what ships, what may stand in one, and what takes the place of what."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from model.config import ExpertConfig
from model.training.recipe import OptimizerConfig, Recipe, load_recipe

SHIPPED = sorted(
    path.name.removesuffix(".toml")
    for path in (resources.files("model") / "recipes").iterdir()
    if path.name.endswith(".toml")
)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_valid(name: str) -> None:
    assert load_recipe(name).batch_size >= 2


def test_published_preset_has_the_papers_numbers() -> None:
    recipe = load_recipe("published")
    assert recipe.init == "open_clip:ViT-B-32-quickgelu/openai"
    assert (recipe.auxiliary, recipe.matching, recipe.auxiliary_negatives) == (0.1, 0.1, "in-batch")
    assert (recipe.batch_size, recipe.epochs, recipe.seed) == (192, 20, 42)
    assert recipe.explanation_dropout == 0
    assert recipe.experts == ExpertConfig(4, 4, 4, attend_padding=True)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.head_learning_rate) == ("adam", 1e-5, None)
    assert (optimizer.weight_decay, optimizer.warmup_steps, optimizer.final_fraction) == (0, 0, 0)
    assert optimizer.clip_norm == 0


def test_published_preset_halves_the_rate_for_goodnews_alone() -> None:
    optimizer = load_recipe("published").optimizer
    assert optimizer.for_data("goodnews").learning_rate == 5e-6
    assert optimizer.for_data("n24news") == optimizer


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batch_size = 4", "steps or epochs"),
        ("steps = 1\nepochs = 2", "steps or epochs"),
        ("colour = 1", "unknown field `colour`"),
        ("steps = 1\nbatch_size = 1", "batches of at least two"),
        ('steps = 1\nprecision = "fp16"', "fp16"),
        ('steps = 1\nauxiliary_negatives = "some"', "some"),
        ("steps = 1\nwise_ft = [0.5]", "wise_ft needs an init"),
        ("steps = 1\n[optimizer]\nrate = 1", "unknown field `rate`"),
        ("epochs = inf", "epochs is a number"),
        ("steps = 1\nvalidation_rows = 0", "validation_rows is at least 1"),
        ("steps = 1\nexplanation_dropout = 1.5", "explanation_dropout is from 0 to 1"),
        ("steps = 1\npatience = -1", "patience are not negative"),
        ("steps = 1\n[optimizer]\nlearning_rate = -1e-3", "learning rates are not negative"),
        (
            "steps = 1\n[optimizer]\nlearning_rate_by_data = {n24news = nan}",
            "learning rates are not negative",
        ),
        ("steps = 1\n[optimizer]\nbeta2 = 1.0", "beta2 is at least 0"),
        ("steps = 1\n[optimizer]\nepsilon = 0.0", "epsilon is more than 0"),
        ("steps = 1\n[optimizer]\nclip_norm = -1.0", "clip_norm are not negative"),
        ("steps = 1\n[optimizer]\nwarmup_steps = -1", "warmup_steps is not negative"),
        ("steps = 1\n[optimizer]\nfinal_fraction = 2.0", "final_fraction is from 0 to 1"),
        ("= 3", "Invalid"),
    ],
)
def test_an_invalid_recipe_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="no recipe 'nothing'"):
        load_recipe("nothing")


def test_changes_take_the_place_of_the_recipes_fields() -> None:
    recipe = load_recipe("published", {"batch_size": 64, "seed": 1})
    assert (recipe.batch_size, recipe.seed, recipe.epochs) == (64, 1, 20)


def test_a_number_of_steps_takes_the_place_of_epochs_and_the_other_way_round() -> None:
    assert (load_recipe("published", {"steps": 5}).steps, load_recipe("published", {"steps": 5}).epochs) == (
        5,
        0,
    )
    assert (load_recipe("tiny", {"epochs": 2}).steps, load_recipe("tiny", {"epochs": 2}).epochs) == (0, 2)


def test_heads_learn_at_the_towers_rate_unless_told_otherwise() -> None:
    assert OptimizerConfig(learning_rate=1e-5).head_learning_rate is None
    assert Recipe(steps=1).optimizer.for_data("anything") == OptimizerConfig()
