"""What a run needs to go on after an interruption, and whether it is still the same run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from model.training.recipe import Recipe

STATE_NAME = "state.pt"
# These shape the cost of a run or its reports, not its losses (but for rounding).
_MAY_CHANGE = frozenset(
    {"micro_batch", "gradient_checkpointing", "wise_ft", "patience", "validate_every", "save_every"}
    | {"data"}  # a folder may have moved: the facts say what is in it
)


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Args:
        step: steps done.
        best: highest validation recall so far.
        stale: validations since then.
        bad_steps: how many steps in a row up to here had a gradient that was not finite.
    """

    step: int = 0
    best: float = -1.0
    stale: int = 0
    bad_steps: int = 0

    def validated(self, recall: float) -> bool:
        """Take note of a validation and return whether it is the best."""
        is_best = recall > self.best
        self.best, self.stale = (recall, 0) if is_best else (self.best, self.stale + 1)
        return is_best

    def is_over(self, recipe: Recipe) -> bool:
        """Whether all steps are done, or recall has not risen for the recipe's patience."""
        return self.step >= recipe.steps or bool(recipe.patience and self.stale >= recipe.patience)


@dataclass(frozen=True, slots=True)
class RunState:
    """The moving parts of a run. `average` is None where no average is kept."""

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer

    def save(self, folder: Path, progress: Progress, identity: Mapping[str, object]) -> None:
        """Replace the state file whole or not at all.

        Args:
            identity: see `identity_of`.

        Raises:
            OSError: it cannot be written.
        """
        state = {
            "model": self.model.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(progress),
            "identity": msgspec.json.encode(identity).decode(),
        }
        part = folder / (STATE_NAME + ".part")
        try:
            torch.save(state, part)
        except RuntimeError as exc:  # torch's own word for a full disk is about its container's positions
            raise OSError(f"{part} cannot be written: is the disk full?") from exc
        part.replace(folder / STATE_NAME)

    def load(self, folder: Path, device: torch.device, identity: Mapping[str, object]) -> Progress:
        """Go on where the state file in the folder stands, or at the beginning without one.

        Raises:
            ValueError: it is the state of another run, and the message says what differs; or it is damaged.
        """
        path = folder / STATE_NAME
        if not path.exists():
            return Progress()
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is damaged: remove it to train from the beginning")
        state = torch.load(path, map_location=device, weights_only=True)
        different = sorted(_differences(msgspec.json.decode(state["identity"]), _plain(identity)))
        if different:
            raise ValueError(
                f"{path} is of another run ({'; '.join(different)}): "
                "go on with the same recipe and data, or choose another output folder"
            )
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        return Progress(**state["progress"])


def identity_of(recipe: Recipe, facts: Mapping[str, object]) -> dict[str, object]:
    """What must not change while a run is resumed: recipe and data."""
    fields: dict[str, Any] = msgspec.to_builtins(recipe)
    return {name: value for name, value in fields.items() if name not in _MAY_CHANGE} | {"facts": facts}


def _plain(identity: Mapping[str, object]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(identity))


def _differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """`name was X, now Y` for every leaf that differs."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then.keys() | now.keys():
            yield from _differences(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif then != now:
        yield f"{name} was {then}, now {now}"
