"""A training recipe: everything that shapes a run, read from one TOML file.

Recipes that ship: `model/recipes/*.toml`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from model.config import ArchitectureConfig, PreprocessConfig
from model.training.flagnews_config import FlagNewsConfig


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """AdamW with warm-up and cosine decay to `final_fraction` of the peak.

    Args:
        learning_rate: peak, of the towers.
        head_learning_rate: peak, of experts, gates and matching head.
        clip_norm: largest norm of the gradient; 0 for none.
    """

    learning_rate: float = 1e-3
    head_learning_rate: float = 1e-3
    beta2: float = 0.98
    weight_decay: float = 0.1
    warmup_steps: int = 100
    final_fraction: float = 0.0
    clip_norm: float = 1.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run.

    Args:
        precision: `bf16` (autocast, float32 master weights) or `fp32`.
        auxiliary, matching: λ and η of the loss.
        ema_decay: of the averaged weights that are validated and saved; 0 for none.
        validate_every, save_every: steps.
    """

    architecture: ArchitectureConfig
    steps: int
    batch_size: int
    flagnews: FlagNewsConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    auxiliary: float = 0.1
    matching: float = 0.1
    explanation_dropout: float = 0.2
    precision: str = "bf16"
    ema_decay: float = 0.0
    seed: int = 42
    validate_every: int = 200
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision {self.precision!r} is neither bf16 nor fp32")
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError("a run needs at least one step and batches of at least two")


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by name, or any TOML file.

    Raises:
        ValueError: no such recipe, or an invalid one, in one line.
    """
    shipped = Path(str(resources.files("model") / "recipes" / f"{name_or_path}.toml"))
    path = shipped if shipped.is_file() else Path(name_or_path)
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Recipe)
    except OSError as exc:
        raise ValueError(f"no recipe {name_or_path!r}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc
