"""Training runs on a few drawn pictures, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import torch

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.training.batches import Batch
from model.training.log import read_metrics
from model.training.loop import Trainer, Validate
from model.training.recipe import OptimizerConfig, Recipe

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
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=2),
    precision="fp32",
    ema_decay=0.9,
    validate_every=3,
    save_every=3,
)


class Colours:
    """Plain pictures and their colour's name.

    Args:
        stop_at: the step that is interrupted, as if by Ctrl-C.
    """

    def __init__(self, stop_at: int | None = None) -> None:
        self._stop_at = stop_at

    def batch(self, step: int) -> Batch:
        if self._stop_at is not None and step >= self._stop_at:
            raise KeyboardInterrupt
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


def run(output: Path, data: Colours | None = None, **changes: object) -> Path:
    """Train `RECIPE` with some fields changed and return the run's folder."""
    Trainer(with_changes(**changes), data or Colours(), output, no_validation).run()
    return output


def with_changes(**changes: object) -> Recipe:
    return msgspec.structs.replace(RECIPE, **changes)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


def recalls(values: Iterable[float]) -> Validate:
    """A validation that finds these recalls, one after the other."""
    found = iter(values)
    return lambda _: {"recall": next(found)}


def weights(model: EntityClip) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
