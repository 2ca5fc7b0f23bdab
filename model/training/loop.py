"""The training loop: batches in, a checkpoint directory out; resumable to the step.

OUT/last/        the newest weights, with `state.pt` to resume from
OUT/best/        the best weights by validation recall
OUT/metrics.jsonl   one line a step and one a validation
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm

from model import checkpoint
from model.config import CheckpointConfig
from model.entityclip import EntityClip
from model.loss import LossParts, LossWeights
from model.training.batches import TrainingData
from model.training.optimizer import build_optimizer, set_learning_rate
from model.training.recipe import Recipe
from model.training.step import TensorBatch, Tensorizer, batch_loss

Validate = Callable[[EntityClip], dict[str, float]]
_STATE_NAME = "state.pt"
_MAX_BAD_STEPS = 20


class TrainingError(RuntimeError):
    """The run cannot go on; the message is one line."""


class Trainer:
    """One run of a recipe.

    Args:
        recipe: what to do.
        data: batches by step.
        output: its folder; a run found there is resumed.
        validate: metrics of a model on held-out data; `recall` among them picks the best.
        device: torch device name.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, output: Path, validate: Validate, device: str = "cpu"
    ) -> None:
        self._recipe, self._data, self._output, self._validate = recipe, data, output, validate
        self._device = torch.device(device)
        torch.manual_seed(recipe.seed)
        self._model = EntityClip(recipe.architecture).to(self._device)
        self._average = EntityClip(recipe.architecture).to(self._device) if recipe.ema_decay else None
        if self._average is not None:
            self._average.load_state_dict(self._model.state_dict())
        self._optimizer = build_optimizer(self._model, recipe.optimizer)
        self._to_tensors = Tensorizer(recipe.architecture, recipe.preprocess, self._device)
        self._step, self._best, self._bad_steps = 0, -1.0, 0

    def run(self) -> Path:
        """Train to the last step and return the folder of the best checkpoint.

        Raises:
            TrainingError: the loss stays not finite.
        """
        self._resume()
        total = self._recipe.steps
        with (
            tqdm(total=total, initial=self._step, unit="step", disable=None, smoothing=0.05) as progress,
            (self._output / "metrics.jsonl").open("a") as log,
        ):
            for batch in self._batches():
                started = time.monotonic()
                parts, rate = self._train_step(batch)
                self._step += 1
                self._log(log, parts=parts, rate=rate, seconds=time.monotonic() - started)
                progress.set_postfix(loss=f"{parts.total.item():.3f}", best=f"{self._best:.3f}")
                progress.update()
                self._finish_step(log)
        return self._output / "best"

    def _finish_step(self, log: TextIO) -> None:
        last = self._step == self._recipe.steps
        if last or self._step % self._recipe.validate_every == 0:
            metrics = self._validate(self._served())
            print(json.dumps({"step": self._step, **metrics}), file=log, flush=True)
            if metrics["recall"] > self._best:
                self._best = metrics["recall"]
                self._save("best", metrics)
        if last or self._step % self._recipe.save_every == 0:
            self._save("last", {})
            self._save_state()

    def _batches(self) -> Iterator[TensorBatch]:
        """The remaining steps' batches, the next ones made in a thread meanwhile."""
        with ThreadPoolExecutor(1, "batches") as pool:
            steps = range(self._step, self._recipe.steps)
            ahead = [pool.submit(self._make, step) for step in steps[:2]]
            for step in steps:
                batch = ahead.pop(0).result()
                if step + 2 < self._recipe.steps:
                    ahead.append(pool.submit(self._make, step + 2))
                yield batch

    def _make(self, step: int) -> TensorBatch:
        return self._to_tensors(self._data.batch(step))

    def _train_step(self, batch: TensorBatch) -> tuple[LossParts, float]:
        recipe = self._recipe
        self._model.train()
        rate = set_learning_rate(self._optimizer, recipe.optimizer, self._step, recipe.steps)
        draw = torch.Generator(self._device).manual_seed(recipe.seed * 1_000_003 + self._step)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            parts = batch_loss(self._model, batch, LossWeights(recipe.auxiliary, recipe.matching), draw)
        self._optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        clip = recipe.optimizer.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), clip)
        self._apply(finite=bool(torch.isfinite(norm)))
        return parts, rate

    def _apply(self, *, finite: bool) -> None:
        """Step the optimiser and the average, but never with a gradient that is not finite."""
        if not finite:
            self._bad_steps += 1
            if self._bad_steps > _MAX_BAD_STEPS:
                raise TrainingError(
                    f"the gradient was not finite {self._bad_steps} times, last at step {self._step}"
                )
            return
        self._optimizer.step()
        if self._average is not None:
            decay = min(self._recipe.ema_decay, (1 + self._step) / (10 + self._step))
            with torch.no_grad():
                pairs = zip(self._average.parameters(), self._model.parameters(), strict=True)
                for average, current in pairs:
                    average.lerp_(current, 1 - decay)

    def _served(self) -> EntityClip:
        return (self._average if self._average is not None else self._model).eval()

    def _save(self, name: str, metrics: dict[str, float]) -> None:
        config = CheckpointConfig(
            architecture=self._recipe.architecture,
            preprocess=self._recipe.preprocess,
            training={"step": self._step, "seed": self._recipe.seed, "data": self._data.facts()},
            metrics=dict(metrics),
        )
        checkpoint.save(self._output / name, self._served(), config)

    def _save_state(self) -> None:
        state = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict() if self._average is not None else {},
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "best": self._best,
        }
        part = self._output / "last" / (_STATE_NAME + ".part")
        torch.save(state, part)
        part.replace(self._output / "last" / _STATE_NAME)

    def _resume(self) -> None:
        self._output.mkdir(parents=True, exist_ok=True)
        path = self._output / "last" / _STATE_NAME
        if not path.exists():
            return
        state = torch.load(path, map_location=self._device, weights_only=True)
        self._model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step, self._best = state["step"], state["best"]

    def _log(self, log: TextIO, *, parts: LossParts, rate: float, seconds: float) -> None:
        line = {
            "step": self._step,
            "loss": round(parts.total.item(), 6),
            "contrastive": round(parts.contrastive.item(), 6),
            "auxiliary": round(parts.auxiliary.item(), 6),
            "matching": round(parts.matching.item(), 6),
            "logit_scale": round(self._model.logit_scale().item(), 3),
            "rate": round(rate, 6),
            "seconds": round(seconds, 3),
        }
        print(json.dumps(line), file=log, flush=True)
