"""The training loop: batches in, a checkpoint directory out; resumable to the step.

OUT/last/           the newest weights, with `state.pt` to resume from
OUT/best/           the best weights by validation recall
OUT/wise-ft/        the best interpolation with the start weights, where the recipe asks for one
OUT/metrics.jsonl   one line a step and one a validation
OUT/curves.png      loss and recall over steps
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import torch

from model import checkpoint
from model.config import CheckpointConfig
from model.entityclip import MAX_LOGIT_SCALE, EntityClip
from model.losses.total import LossParts
from model.training.batches import TrainingData
from model.training.gradients import loss_and_gradients
from model.training.log import RunLog
from model.training.optimizer import build_optimizer, set_learning_rate
from model.training.recipe import Recipe
from model.training.start import initial_model
from model.training.state import Progress, RunState, identity_of
from model.training.step import ImageTokens, TensorBatch, Tensorizer
from model.world import World

Validate = Callable[[EntityClip], dict[str, float]]
BEST, LAST = "best", "last"
_MAX_BAD_STEPS = 20  # in a row
# A hair below where `EntityClip.logit_scale` cuts: beyond, its gradient is 0 and it could never fall again.
_MAX_LOG_SCALE = math.log(MAX_LOGIT_SCALE) - 1e-6


class TrainingError(RuntimeError):
    """The run cannot go on; the message is one line."""


class Trainer:
    """One run of a recipe.

    Args:
        recipe: what to do, with its length in steps.
        data: this rank's batches by step.
        output: its folder, which all ranks see; a run found there is resumed.
        validate: metrics of a model on held-out data; `recall` among them picks the best. Called on the first
            rank only.
        device: torch device name.
        model: the start weights; by the recipe when None. Trained in place.
        world: the processes of the run.
        image_tokens: tokens of stored pictures, for a locked image tower.

    Raises:
        ValueError: the recipe has no length in steps, or its batch is no multiple of the number of processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        output: Path,
        validate: Validate,
        device: str = "cpu",
        *,
        model: EntityClip | None = None,
        world: World | None = None,
        image_tokens: ImageTokens | None = None,
    ) -> None:
        self._world = world or World()
        if not recipe.steps:
            raise ValueError("this data set has no epochs: give the number of steps")
        check_shares(recipe, self._world)
        if model is None:
            recipe, model = initial_model(recipe)
        self._recipe, self._data, self._output, self._validate = recipe, data, output, validate
        self._device = torch.device(device)
        self._model = _prepared(model.to(self._device), recipe)
        self._world.copy_from_first(self._model)
        self._average: EntityClip | None = None
        if recipe.ema_decay and self._world.is_first:
            self._average = EntityClip(recipe.architecture).to(self._device)
            self._average.load_state_dict(self._model.state_dict())
        self._optimizer = build_optimizer(self._model, recipe.optimizer)
        self._state = RunState(self._model, self._average, self._optimizer)
        self._to_tensors = Tensorizer(recipe.architecture, recipe.preprocess, self._device, image_tokens)
        self._autocast = partial(
            torch.autocast, self._device.type, torch.bfloat16, enabled=recipe.precision == "bf16"
        )
        self._progress = Progress()

    def run(self) -> Path:
        """Train to the end and return the folder of the best checkpoint.

        Raises:
            TrainingError: the gradient stays not finite, the device's memory is too small, or the ranks do
                not see the same folder.
            ValueError: the output folder holds another run.
        """
        self._resume()
        steps, active = self._recipe.steps, self._world.is_first
        with RunLog(self._output, self._progress.step, steps, active=active) as log:
            if not self._progress.is_over(self._recipe):
                self._loop(log)
        return self._output / BEST

    def _loop(self, log: RunLog) -> None:
        with closing(self._batches()) as batches:
            for batch in batches:
                started = time.monotonic()
                parts, rate = self._train_step(batch)
                self._progress.step += 1
                log.write(self._line(parts, rate, time.monotonic() - started))
                log.advance(loss=f"{parts.total.item():.3f}", best=f"{max(0.0, self._progress.best):.3f}")
                self._finish_step(log)
                if self._progress.is_over(self._recipe):
                    return

    def _finish_step(self, log: RunLog) -> None:
        step, recipe = self._progress.step, self._recipe
        if step == recipe.steps or step % recipe.validate_every == 0:
            metrics = self._validate(self._served()) if self._world.is_first else {}
            metrics = self._world.share(metrics)
            log.write({"step": step, **metrics})
            if self._progress.validated(metrics["recall"]):
                self._save(BEST, metrics)
        if step % recipe.save_every == 0 or self._progress.is_over(recipe):
            self._save(LAST, {})
            if self._world.is_first:
                self._state.save(self._output / LAST, self._progress, self._identity())

    def _batches(self) -> Generator[TensorBatch]:
        """The remaining steps' batches, the next ones made in a thread meanwhile."""
        with ThreadPoolExecutor(1, "batches") as pool:
            steps = range(self._progress.step, self._recipe.steps)
            ahead = [pool.submit(self._make, step) for step in steps[:2]]
            for step in steps:
                batch = ahead.pop(0).result()
                if step + 2 < self._recipe.steps:
                    ahead.append(pool.submit(self._make, step + 2))
                yield batch

    def _make(self, step: int) -> TensorBatch:
        return self._to_tensors(self._data.batch(step))

    def _train_step(self, batch: TensorBatch) -> tuple[LossParts, float]:
        recipe, step = self._recipe, self._progress.step
        self._model.train()
        if recipe.lock_image:
            self._model.backbone.visual.eval()
        rate = set_learning_rate(self._optimizer, recipe.optimizer, step, recipe.steps)
        draw = torch.Generator(self._device).manual_seed(
            (recipe.seed * 1_000_003 + step) * self._world.size + self._world.rank
        )
        self._optimizer.zero_grad(set_to_none=True)
        try:
            parts = loss_and_gradients(
                self._model,
                batch,
                recipe.loss_weights,
                micro_batch=recipe.micro_batch,
                generator=draw,
                world=self._world,
                autocast=self._autocast,
            )
        except torch.OutOfMemoryError as exc:
            raise TrainingError(
                f"the device's memory does not hold {recipe.micro_batch or len(batch)} rows at once: "
                "a smaller --micro-batch (the losses stay the same) or gradient_checkpointing helps"
            ) from exc
        clip = recipe.optimizer.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), clip)
        self._apply(finite=bool(torch.isfinite(norm)))
        return parts, rate

    def _apply(self, *, finite: bool) -> None:
        """Step the optimiser and the average, but never with a gradient that is not finite."""
        progress = self._progress
        if not finite:
            progress.bad_steps += 1
            if progress.bad_steps > _MAX_BAD_STEPS:
                raise TrainingError(
                    f"the gradient was not finite {progress.bad_steps} times in a row, "
                    f"last at step {progress.step + 1}"
                )
            return
        progress.bad_steps = 0
        self._optimizer.step()
        _limit_scale(self._model)
        if self._average is not None:
            decay = min(self._recipe.ema_decay, (1 + progress.step) / (10 + progress.step))
            with torch.no_grad():
                pairs = zip(self._average.parameters(), self._model.parameters(), strict=True)
                for average, current in pairs:
                    average.lerp_(current, 1 - decay)

    def _served(self) -> EntityClip:
        return (self._model if self._average is None else self._average).eval()

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        if self._world.is_first:
            config = checkpoint_config(self._recipe, self._progress.step, self._data.facts(), metrics)
            checkpoint.save(self._output / name, self._served(), config)

    def _identity(self) -> dict[str, object]:
        return identity_of(self._recipe, self._data.facts())

    def _resume(self) -> None:
        self._output.mkdir(parents=True, exist_ok=True)
        self._progress = self._state.load(self._output / LAST, self._device, self._identity())
        if self._world.share(self._progress.step) != self._progress.step:
            raise TrainingError(
                f"rank {self._world.rank} does not find the run to go on with: "
                f"{self._output} must be one folder that all machines share"
            )

    def _line(self, parts: LossParts, rate: float, seconds: float) -> dict[str, float]:
        return {
            "step": self._progress.step,
            "loss": round(parts.total.item(), 6),
            "contrastive": round(parts.contrastive.item(), 6),
            "auxiliary": round(parts.auxiliary.item(), 6),
            "matching": round(parts.matching.item(), 6),
            "logit_scale": round(self._model.logit_scale().item(), 3),
            "rate": round(rate, 6),
            "seconds": round(seconds, 3),
        }


def check_shares(recipe: Recipe, world: World) -> None:
    """Raise ValueError where the processes cannot share a batch evenly."""
    if recipe.batch_size % world.size:
        raise ValueError(f"{world.size} processes cannot share batches of {recipe.batch_size}")


def checkpoint_config(
    recipe: Recipe, step: int, facts: dict[str, object], metrics: dict[str, float]
) -> CheckpointConfig:
    """What a checkpoint of a run says of itself."""
    shaped = {"architecture", "preprocess"}  # stand in the configuration already
    fields = {name: value for name, value in msgspec.to_builtins(recipe).items() if name not in shaped}
    return CheckpointConfig(
        architecture=recipe.architecture,
        preprocess=recipe.preprocess,
        text="concat" if recipe.text == "concat" else "caption",
        training={"step": step, "seed": recipe.seed, "data": facts, "recipe": fields},
        metrics=dict(metrics),
    )


def _prepared(model: EntityClip, recipe: Recipe) -> EntityClip:
    """Locked and with checkpointed activations as the recipe says."""
    model.requires_grad_(True)
    _limit_scale(model)  # OpenAI's weights start at the limit
    if recipe.lock_image:
        model.backbone.visual.requires_grad_(False)
    model.backbone.set_grad_checkpointing(recipe.gradient_checkpointing)
    return model


@torch.no_grad()
def _limit_scale(model: EntityClip) -> None:
    """Keep the logit scale where it has a gradient."""
    model.backbone.logit_scale.clamp_(max=_MAX_LOG_SCALE)
