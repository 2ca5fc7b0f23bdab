"""The training loop on a few drawn pictures: it learns, resumes to the step, stops, and picks the best."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.entityclip import EntityClip
from model.training import loop
from model.training.log import METRICS_NAME, read_metrics
from model.training.loop import Trainer, TrainingError
from model.training.optimizer import build_optimizer, rate_fraction
from model.training.recipe import OptimizerConfig
from model.world import World
from tests.unit.test_entityclip import build
from tests.unit.training_runs import (
    RECIPE,
    Colours,
    losses,
    no_validation,
    recalls,
    run,
    weights,
    with_changes,
)


def assert_equal_weights(first: Path, second: Path) -> None:
    ours, theirs = (checkpoint.load(folder / "last").model.state_dict() for folder in (first, second))
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def interrupt(output: Path, at: int = 3, **changes: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(output, Colours(stop_at=at), **changes)


def test_training_learns_colours(tmp_path: Path) -> None:
    curve = losses(run(tmp_path, steps=60))
    assert np.mean(curve[-5:]) < 0.6 * np.mean(curve[:5])


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_resumed_training_gives_the_same_losses_and_weights(tmp_path: Path, micro_batch: int) -> None:
    whole = run(tmp_path / "whole", micro_batch=micro_batch)
    interrupt(tmp_path / "parts", micro_batch=micro_batch)
    parts = run(tmp_path / "parts", micro_batch=micro_batch)
    assert losses(parts) == losses(whole)
    assert_equal_weights(whole, parts)


def test_what_was_logged_after_the_last_saved_step_is_not_there_twice(tmp_path: Path) -> None:
    interrupt(tmp_path, at=5)
    with (tmp_path / METRICS_NAME).open("a") as file:
        file.write('{"step": 6, "lo')  # torn by a crash
    run(tmp_path)
    steps = [line["step"] for line in read_metrics(tmp_path) if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_resuming_another_run_says_what_differs(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ValueError, match=r"auxiliary was 0.1, now 0.3.*seed was 42, now 7") as error:
        run(tmp_path, seed=7, auxiliary=0.3)
    assert "\n" not in str(error.value)


def test_resuming_on_other_data_says_what_differs(tmp_path: Path) -> None:
    class Other(Colours):
        def facts(self) -> dict[str, object]:
            return {"name": "shades"}

    run(tmp_path)
    with pytest.raises(ValueError, match=r"facts\.name was colours, now shades"):
        run(tmp_path, Other())


def test_a_state_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "last" / "state.pt.part").mkdir(parents=True)  # in its way, as a full disk would be
    with pytest.raises(OSError, match="cannot be written"):
        run(tmp_path)


def test_a_run_may_go_on_with_smaller_chunks(tmp_path: Path) -> None:
    interrupt(tmp_path)
    assert len(losses(run(tmp_path, micro_batch=2, gradient_checkpointing=True))) == 6


def test_weights_that_stay_not_finite_end_the_run(tmp_path: Path) -> None:
    model = build_model_with_nan()
    trainer = Trainer(with_changes(steps=40), Colours(), tmp_path, no_validation, model=model)
    with pytest.raises(TrainingError, match="not finite"):
        trainer.run()


def test_gradients_that_are_finite_again_let_the_run_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_MAX_BAD_STEPS", 3)

    def heal_or_hurt(model: EntityClip) -> dict[str, float]:
        bias = model.itm_head.bias.data
        bias.fill_(0.0 if bool(bias.isnan().any()) else float("nan"))
        return {"recall": 0.5}

    recipe = with_changes(steps=15, ema_decay=0.0)
    Trainer(recipe, Colours(), tmp_path, heal_or_hurt, model=build_model_with_nan()).run()
    assert sum(np.isnan(losses(tmp_path))) == 9


def test_one_picture_without_a_finite_vector_costs_a_step_and_not_the_run(tmp_path: Path) -> None:
    model = EntityClip(RECIPE.architecture)

    def hurt(_: object, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        image = inputs[0].clone()
        image[0] = float("nan")
        return (image,)

    hook = model.backbone.visual.register_forward_pre_hook(hurt)
    before = weights(model)
    Trainer(with_changes(steps=2), Colours(), tmp_path, no_validation, model=model).run()
    hook.remove()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


def test_too_little_memory_of_the_device_says_what_helps(tmp_path: Path) -> None:
    model = EntityClip(RECIPE.architecture)

    def overflow(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.backbone.visual.register_forward_pre_hook(overflow)
    with pytest.raises(TrainingError, match="does not hold 4 rows at once: a smaller --micro-batch"):
        Trainer(RECIPE, Colours(), tmp_path, no_validation, model=model).run()


@pytest.mark.parametrize("start", [math.log(100), 4.6052, 6.0])
def test_a_logit_scale_that_starts_at_its_limit_is_trained(tmp_path: Path, start: float) -> None:
    model = EntityClip(RECIPE.architecture)
    with torch.no_grad():
        model.backbone.logit_scale.fill_(start)
    Trainer(with_changes(ema_decay=0.0), Colours(), tmp_path, no_validation, model=model).run()
    scales = [line["logit_scale"] for line in read_metrics(tmp_path) if "loss" in line]
    assert scales[-1] < 99.9
    assert max(scales) <= 100


def build_model_with_nan() -> EntityClip:
    model = EntityClip(RECIPE.architecture)
    with torch.no_grad():
        model.itm_head.bias.fill_(float("nan"))
    return model


def test_best_is_kept_by_validation_recall(tmp_path: Path) -> None:
    Trainer(with_changes(steps=9), Colours(), tmp_path, recalls([0.4, 0.9, 0.2])).run()
    assert checkpoint.load(tmp_path / "best").config.training["step"] == 6


def test_a_run_ends_when_recall_has_not_risen_for_its_patience(tmp_path: Path) -> None:
    recipe = with_changes(steps=30, patience=2)
    Trainer(recipe, Colours(), tmp_path, recalls([0.4, 0.6, 0.5, 0.6])).run()
    assert len(losses(tmp_path)) == 12
    assert checkpoint.load(tmp_path / "best").config.training["step"] == 6
    assert checkpoint.load(tmp_path / "last").config.training["step"] == 12


def test_a_run_that_ended_early_stays_ended(tmp_path: Path) -> None:
    recipe = with_changes(steps=30, patience=1)
    Trainer(recipe, Colours(), tmp_path, recalls([0.4, 0.3])).run()
    Trainer(recipe, Colours(), tmp_path, recalls([])).run()
    assert len(losses(tmp_path)) == 6


def test_the_checkpoint_says_how_it_was_made(tmp_path: Path) -> None:
    training = checkpoint.load(run(tmp_path) / "best").config.training
    assert training["data"] == {"name": "colours"}
    recipe = training["recipe"]
    assert isinstance(recipe, dict)
    assert (recipe["batch_size"], recipe["auxiliary"]) == (4, 0.1)


def test_a_locked_image_tower_is_unchanged_and_has_no_optimizer_state(tmp_path: Path) -> None:
    model = EntityClip(RECIPE.architecture)
    before = weights(model)
    recipe = with_changes(lock_image=True, ema_decay=0.0)
    trainer = Trainer(recipe, Colours(), tmp_path, no_validation, model=model)
    trainer.run()
    after = weights(model)
    for name, tensor in before.items():
        if name.startswith("backbone.visual."):
            assert torch.equal(after[name], tensor), name
    assert not torch.equal(after["backbone.text_projection"], before["backbone.text_projection"])
    state = torch.load(tmp_path / "last" / "state.pt", weights_only=True)
    trained = [name for name in before if not name.startswith("backbone.visual.")]
    assert len(state["optimizer"]["state"]) == len(
        [n for n in trained if n in dict(model.named_parameters())]
    )


def test_a_plain_clip_leaves_the_heads_alone(tmp_path: Path) -> None:
    model = EntityClip(RECIPE.architecture)
    before = weights(model)
    recipe = with_changes(auxiliary=0.0, matching=0.0, ema_decay=0.0)
    Trainer(recipe, Colours(), tmp_path, no_validation, model=model).run()
    after = weights(model)
    heads = [name for name in before if not name.startswith("backbone.")]
    assert heads
    assert all(torch.equal(after[name], before[name]) for name in heads)
    assert not torch.equal(after["backbone.text_projection"], before["backbone.text_projection"])


def test_training_in_half_precision_keeps_float32_weights(tmp_path: Path) -> None:
    model = EntityClip(RECIPE.architecture)
    Trainer(with_changes(precision="bf16"), Colours(), tmp_path, no_validation, model=model).run()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(np.isfinite(losses(tmp_path)))


def test_processes_that_cannot_share_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 processes cannot share batches of 4"):
        Trainer(RECIPE, Colours(), tmp_path, no_validation, world=World(0, 3, 0))


def test_rate_warms_up_and_decays_to_the_final_fraction() -> None:
    config = OptimizerConfig(warmup_steps=10, final_fraction=0.1)
    rates = [rate_fraction(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_published_rate_falls_from_the_first_step_to_zero() -> None:
    config = OptimizerConfig(warmup_steps=0, final_fraction=0.0)
    rates = [rate_fraction(config, step, 50) for step in range(51)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)


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


def test_heads_have_a_rate_of_their_own() -> None:
    model = build(attend_padding=False)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=1e-5, head_learning_rate=1e-4))
    rate = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rate[id(parameter)] == (1e-5 if name.startswith("backbone.") else 1e-4), name


def test_metrics_are_one_json_object_a_line(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run(tmp_path) / METRICS_NAME).read_text().splitlines()]
    assert {"step", "loss", "contrastive", "auxiliary", "matching", "rate"} <= lines[0].keys()
    assert [line["step"] for line in lines if "recall" in line] == [3, 6]
