"""The FlagNews part of a recipe."""

from __future__ import annotations

import msgspec


class FlagNewsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The FlagNews training set; see `model.flagnews.bank` and `model.flagnews.training_set`.

    The explanations' dropout is the recipe's.
    """

    real_pictures: int = 36_000
    invented_entities: int = 2000
    invented_pictures: int = 12_000
    unseen_fold: int | None = 0
    real_fraction: float = 0.75
    curriculum_steps: int = 0
    shuffle_explanations: bool = False
    seed: int = 0
