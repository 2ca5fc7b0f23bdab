"""The training loop on a few drawn pictures: it learns, resumes to the step, and refuses nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from model import checkpoint
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.training.batches import Batch
from model.training.flagnews_config import FlagNewsConfig
from model.training.loop import Trainer, TrainingError
from model.training.optimizer import build_optimizer, rate_fraction
from model.training.recipe import OptimizerConfig, Recipe, load_recipe
from tests.unit.test_entityclip import build

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "grey": (120, 120, 120)}

RECIPE = Recipe(
    architecture=ArchitectureConfig(
        embed_dim=32,
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
        text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=16),
        experts=ExpertConfig(1, 1, 1),
    ),
    steps=6,
    batch_size=4,
    flagnews=FlagNewsConfig(),
    optimizer=OptimizerConfig(learning_rate=2e-3, head_learning_rate=2e-3, warmup_steps=2),
    precision="fp32",
    ema_decay=0.9,
    validate_every=3,
    save_every=3,
)


class Colours:
    """Plain pictures and their colour's name."""

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng(step)
        noise = rng.integers(0, 30, (4, 32, 32, 3))
        pixels = np.array(list(COLOURS.values()))[:, None, None] + noise
        return Batch(
            pixels=pixels.clip(0, 255).astype(np.uint8),
            captions=[f"a {name} wall" for name in COLOURS],
            explanations=[f"all of it is {name}" for name in COLOURS],
            image_group=np.arange(4),
            text_group=np.arange(4),
        )

    def facts(self) -> dict[str, object]:
        return {"name": "colours"}


def no_validation(_: EntityClip) -> dict[str, float]:
    return {"recall": 0.5}


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def start(name: str, **changes: object) -> Path:
        recipe = msgspec.structs.replace(RECIPE, **changes)
        Trainer(recipe, Colours(), tmp_path / name, no_validation).run()
        return tmp_path / name

    return start


def test_training_learns_colours(run: Callable[..., Path]) -> None:
    curve = losses(run("long", steps=60))
    assert np.mean(curve[-5:]) < 0.6 * np.mean(curve[:5])


def test_resumed_training_gives_the_same_losses_and_weights(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole")
    interrupted = Trainer(RECIPE, Colours(), tmp_path / "parts", no_validation)
    with monkeypatch.context() as patch:
        patch.setattr(Colours, "batch", _stop_after(3, Colours.batch))
        with pytest.raises(KeyboardInterrupt):
            interrupted.run()
    parts = run("parts")
    assert losses(parts)[-3:] == losses(whole)[-3:]
    first, second = checkpoint.load(whole / "last"), checkpoint.load(parts / "last")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def _stop_after(steps: int, batch: Callable[[Colours, int], Batch]) -> Callable[[Colours, int], Batch]:
    def limited(self: Colours, step: int) -> Batch:
        if step >= steps:
            raise KeyboardInterrupt
        return batch(self, step)

    return limited


def test_weights_that_stay_not_finite_end_the_run(tmp_path: Path) -> None:
    trainer = Trainer(msgspec.structs.replace(RECIPE, steps=40), Colours(), tmp_path, no_validation)
    with torch.no_grad():
        trainer._model.itm_head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        trainer.run()


def test_best_is_kept_by_validation_recall(tmp_path: Path) -> None:
    recalls = iter([0.4, 0.9, 0.2])
    recipe = msgspec.structs.replace(RECIPE, steps=9)
    Trainer(recipe, Colours(), tmp_path, lambda _: {"recall": next(recalls)}).run()
    assert checkpoint.load(tmp_path / "best").config.training["step"] == 6


def test_rate_warms_up_and_decays_to_the_final_fraction() -> None:
    config = OptimizerConfig(warmup_steps=10, final_fraction=0.1)
    rates = [rate_fraction(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_gains_biases_and_positions_are_not_decayed() -> None:
    model = build(attend_padding=False)
    optimizer = build_optimizer(model, OptimizerConfig())
    decayed = {
        id(parameter)
        for group in optimizer.param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names
    assert not [n for n in names if n.endswith("bias") or "norm" in n or ".ln_" in n or "position" in n]
    assert {"itm_head.weight", "image_experts.fc_weight", "backbone.visual.conv1.weight"} <= names
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_shipped_recipe_is_valid() -> None:
    assert load_recipe("tiny").architecture.vision.image_size == 96


@pytest.mark.parametrize(
    ("content", "message"),
    [("steps = 1", "missing"), ("colour = 1", "unknown field|missing"), ("= 3", "Invalid")],
)
def test_an_invalid_recipe_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_recipe(str(path))


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="no recipe 'nothing'"):
        load_recipe("nothing")
