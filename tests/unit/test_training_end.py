"""What a run starts from and ends with: start weights, interpolation with them, and the curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import checkpoint
from model.config import CheckpointConfig, ExpertConfig
from model.entityclip import EntityClip
from model.training.curves import CURVES_NAME, draw_curves
from model.training.log import append_metrics, read_metrics
from model.training.loop import Trainer
from model.training.recipe import Recipe
from model.training.start import initial_model
from model.training.wise_ft import interpolate_and_validate
from tests.unit.training_runs import RECIPE, Colours, no_validation, with_changes


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """A checkpoint to start from."""
    torch.manual_seed(5)
    model = EntityClip(RECIPE.architecture)
    checkpoint.save(tmp_path / "init", model, CheckpointConfig(RECIPE.architecture, RECIPE.preprocess))
    return tmp_path / "init"


def tuned(init: Path, output: Path, **changes: object) -> Recipe:
    """Train a little from the init."""
    recipe, model = initial_model(with_changes(init=str(init), **changes))
    Trainer(recipe, Colours(), output, no_validation, model=model).run()
    return recipe


def test_a_run_starts_from_the_weights_and_the_architecture_of_its_init(init: Path) -> None:
    recipe, model = initial_model(Recipe(init=str(init), steps=1))
    assert recipe.architecture == RECIPE.architecture
    expected = checkpoint.load(init).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_a_model_with_heads_keeps_them_whatever_the_recipe_gives_to_fresh_ones(init: Path) -> None:
    recipe, _ = initial_model(Recipe(init=str(init), steps=1, experts=ExpertConfig(4, 4, 4)))
    assert recipe.architecture.experts == ExpertConfig(1, 1, 1)


def test_random_weights_are_those_of_the_seed() -> None:
    first, second = (initial_model(RECIPE)[1].state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_missing_init_is_one_line() -> None:
    with pytest.raises(ValueError, match="nowhere is no checkpoint"):
        initial_model(Recipe(init="nowhere", steps=1))


def test_the_best_interpolation_with_the_start_weights_is_written(init: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    recipe = tuned(init, output, wise_ft=[0.25, 0.75])
    start, end = (checkpoint.load(folder).model.state_dict() for folder in (init, output / "best"))
    found = {0.25: 0.9, 0.75: 0.2}
    recall = iter(found.values())
    best = interpolate_and_validate(recipe, output, lambda _: {"recall": next(recall)}, "cpu")
    assert best == output / "wise-ft"
    mixed = checkpoint.load(best)
    assert mixed.config.metrics["wise_ft"] == 0.25
    for name, tensor in mixed.model.state_dict().items():
        torch.testing.assert_close(tensor, torch.lerp(start[name], end[name], 0.25))
    assert {line["wise_ft"]: line["recall"] for line in read_metrics(output) if "wise_ft" in line} == found


def test_the_trained_weights_stay_the_best_where_no_interpolation_is_better(
    init: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    recipe = tuned(init, output, wise_ft=[0.5])
    assert interpolate_and_validate(recipe, output, lambda _: {"recall": 0.1}, "cpu") == output / "best"


def test_interpolations_are_measured_once(init: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    recipe = tuned(init, output, wise_ft=[0.5])
    first = interpolate_and_validate(recipe, output, lambda _: {"recall": 0.9}, "cpu")

    def never(_: EntityClip) -> dict[str, float]:
        raise AssertionError("measured again")

    assert interpolate_and_validate(recipe, output, never, "cpu") == first


def test_curves_show_losses_and_recall(tmp_path: Path) -> None:
    for step in range(1, 301):
        append_metrics(
            tmp_path,
            {"step": step, "loss": 5 / step, "contrastive": 4 / step, "auxiliary": 3 / step, "matching": 0.7},
        )
        if step % 100 == 0:
            append_metrics(tmp_path, {"step": step, "recall": step / 400, "image_to_text_R@1": step / 400})
    path = draw_curves(tmp_path)
    assert path == tmp_path / CURVES_NAME
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 1000
    halves = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    for half in halves:  # each has coloured lines on white
        assert ((half.max(axis=2).astype(int) - half.min(axis=2)) > 100).sum() > 200


def test_a_run_without_steps_has_no_curves(tmp_path: Path) -> None:
    assert draw_curves(tmp_path) is None
