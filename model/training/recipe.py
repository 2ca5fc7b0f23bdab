"""A training recipe: everything that shapes a run, read from one TOML file.

Recipes that ship: `model/recipes/*.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from model.config import ArchitectureConfig, ExpertConfig, PreprocessConfig
from model.losses.total import AuxiliaryNegatives, LossWeights
from model.text_mode import TextMode
from model.training.flagnews_config import FlagNewsConfig

FLAGNEWS = "flagnews"


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Adam or AdamW with warm-up and cosine decay to `final_fraction` of the peak, a rate for every step.

    Args:
        name: `adamw` (no decay of gains, biases, positions, class token and logit scale) or `adam`.
        learning_rate: peak, of the towers.
        head_learning_rate: peak, of experts, gates and matching head; None for the towers'.
        learning_rate_by_data: in place of both, for data sets of these names.
        clip_norm: largest norm of the gradient; 0 for none.
    """

    name: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    learning_rate_by_data: dict[str, float] = {}
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.1
    warmup_steps: int = 100
    final_fraction: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        rates = (self.learning_rate, self.head_learning_rate or 0.0, *self.learning_rate_by_data.values())
        for problem, found in (
            ("learning rates are not negative", not all(rate >= 0 for rate in rates)),
            ("beta2 is at least 0 and less than 1", not 0 <= self.beta2 < 1),
            ("epsilon is more than 0", not self.epsilon > 0),
            ("weight_decay and clip_norm are not negative", not min(self.weight_decay, self.clip_norm) >= 0),
            ("warmup_steps is not negative", self.warmup_steps < 0),
            ("final_fraction is from 0 to 1", not 0 <= self.final_fraction <= 1),
        ):
            if found:
                raise ValueError(problem)

    def for_data(self, dataset: str) -> OptimizerConfig:
        """The same with this data set's rate."""
        rate = self.learning_rate_by_data.get(dataset)
        if rate is None:
            return self
        return msgspec.structs.replace(self, learning_rate=rate, head_learning_rate=None)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run.

    Args:
        architecture, preprocess: of a model that starts from random weights; with `init` they are the init's.
        init: where the weights come from: a checkpoint's folder, `open_clip:NAME/TAG` or `hf-hub:…`.
        experts: of the fresh heads that an open_clip init gets; None for the default.
        data: `flagnews`, a prepared folder, or `KIND:PATH` of a data set.
        steps, epochs: how long; one of the two.
        batch_size: of all processes together.
        micro_batch: rows a process encodes at once; a larger batch goes through in chunks, with the gradients
            of the whole batch. 0 for all at once.
        gradient_checkpointing: compute the towers' activations again in the backward pass.
        precision: `bf16` (autocast, float32 master weights) or `fp32`.
        auxiliary, matching: λ and η of the loss.
        auxiliary_negatives: see `LossWeights`.
        text: what the text tower reads of a row, see `model.text_mode`; a `concat` model is served that way.
        explanation_dropout: probability that a training row has no explanation.
        crop_scale: least part of a picture that a random crop keeps; 1 for the plain preprocessing.
        lock_image: train without touching the image tower; its tokens of stored pictures are computed once.
        ema_decay: of the averaged weights that are validated and saved; 0 for none.
        wise_ft: alphas at which the end is interpolated with `init` and validated.
        patience: validations without a better recall after which the run ends; 0 for never.
        validation_rows: most rows of the validation split that are used.
        validate_every, save_every: steps.
    """

    architecture: ArchitectureConfig = ArchitectureConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    init: str = ""
    experts: ExpertConfig | None = None
    data: str = FLAGNEWS
    flagnews: FlagNewsConfig = FlagNewsConfig()
    steps: int = 0
    epochs: float = 0
    batch_size: int = 128
    micro_batch: int = 0
    gradient_checkpointing: bool = False
    precision: Literal["bf16", "fp32"] = "bf16"
    optimizer: OptimizerConfig = OptimizerConfig()
    auxiliary: float = 0.1
    matching: float = 0.1
    auxiliary_negatives: AuxiliaryNegatives = "in-batch"
    text: TextMode = "caption"
    explanation_dropout: float = 0.2
    crop_scale: float = 1.0
    lock_image: bool = False
    ema_decay: float = 0.0
    wise_ft: list[float] = []
    patience: int = 0
    seed: int = 42
    validation_rows: int = 5000
    validate_every: int = 200
    save_every: int = 100

    def __post_init__(self) -> None:
        for problem, found in (
            ("give steps or epochs, one of the two", bool(self.steps) == bool(self.epochs)),
            ("a run needs at least one step and batches of at least two", self.batch_size < 2),
            ("steps, epochs, micro_batch and patience are not negative", min(self._counts()) < 0),
            ("epochs is a number", not math.isfinite(self.epochs)),
            ("validation_rows is at least 1", self.validation_rows < 1),
            ("explanation_dropout is from 0 to 1", not 0 <= self.explanation_dropout <= 1),
            ("validate_every and save_every are at least 1", min(self.validate_every, self.save_every) < 1),
            ("wise_ft needs an init to interpolate with", bool(self.wise_ft and not self.init)),
            ("wise_ft has alphas from 0 to 1", not all(0 <= alpha <= 1 for alpha in self.wise_ft)),
            ("ema_decay is at least 0 and less than 1", not 0 <= self.ema_decay < 1),
            ("auxiliary and matching are not negative", min(self.auxiliary, self.matching) < 0),
            ("crop_scale is more than 0 and at most 1", not 0 < self.crop_scale <= 1),
        ):
            if found:
                raise ValueError(problem)

    def _counts(self) -> tuple[float, ...]:
        return self.steps, self.epochs, self.micro_batch, self.patience

    @property
    def loss_weights(self) -> LossWeights:
        """λ, η and the auxiliary loss's negatives."""
        return LossWeights(self.auxiliary, self.matching, self.auxiliary_negatives)


def load_recipe(name_or_path: str, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read a shipped recipe by name, or any TOML file.

    Args:
        changes: fields in place of the recipe's; `steps` takes the place of `epochs` and the other way round.

    Raises:
        ValueError: no such recipe, or an invalid one, in one line.
    """
    shipped = Path(str(resources.files("model") / "recipes" / f"{name_or_path}.toml"))
    path = shipped if shipped.is_file() else Path(name_or_path)
    try:
        fields = msgspec.toml.decode(path.read_bytes())
        if not isinstance(fields, dict):
            raise ValueError("not a table")
        return msgspec.convert(_changed(fields, changes or {}), Recipe)
    except OSError as exc:
        raise ValueError(f"no recipe {name_or_path!r}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _changed(fields: dict[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        if length in changes and other not in changes:
            fields = {name: value for name, value in fields.items() if name != other}
    return {**fields, **changes}
