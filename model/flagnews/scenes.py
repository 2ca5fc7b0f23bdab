"""Scenes of FlagNews: eight kinds of news background, drawn.

Training and test share the kinds and nothing else: their random streams are seeded apart (`scene_rng`), and
so are their parameters: the light comes from `TRAIN_MOODS` or `TEST_MOODS`, which have no mood in common.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from model.flagnews import gatherings, outdoors
from model.flagnews.scenery import TEST_MOODS, TRAIN_MOODS, Bytes, Canvas

SceneKind = Literal["street", "harbour", "skyline", "stadium", "podium", "crowd", "interior", "field"]
Split = Literal["train", "test"]

_STREAM = {"train": 1, "test": 2}
_SCENES_TAG = 0x5CE7E5  # keeps these streams apart from others that use the same seed


def scene_kinds(split: Split) -> tuple[SceneKind, ...]:
    """The kinds a split draws from: all of them, in training as in test.

    Raises:
        ValueError: unknown split.
    """
    if split not in _STREAM:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(_STREAM)}")
    return get_args(SceneKind)


def scene_rng(split: Split, index: int, seed: int = 0) -> np.random.Generator:
    """The random stream of scene number `index` of a split; no two splits share one."""
    return np.random.default_rng([_SCENES_TAG, _STREAM[split], seed, index])


def scene_bank(split: Split, count: int, size: int, seed: int = 0) -> list[Bytes]:
    """`count` scenes of a split, kinds in turn, each [size, size, 3] uint8."""
    kinds = scene_kinds(split)
    return [
        draw_scene(kinds[index % len(kinds)], scene_rng(split, index, seed), size, split)
        for index in range(count)
    ]


def draw_scene(kind: SceneKind, rng: np.random.Generator, size: int, split: Split = "train") -> Bytes:
    """Draw one scene, [size, size, 3] uint8, in a mood of the split.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in _PAINTERS:
        raise ValueError(f"unknown kind of scene {kind!r}; known: {', '.join(_PAINTERS)}")
    moods = TRAIN_MOODS if split == "train" else TEST_MOODS
    canvas = Canvas(size, moods[int(rng.integers(len(moods)))], rng)
    _PAINTERS[kind](canvas)
    return canvas.finish(roughness=canvas.uniform(1.0, 7.0))


_PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "street": outdoors.street,
    "harbour": outdoors.harbour,
    "skyline": outdoors.skyline,
    "stadium": gatherings.stadium,
    "podium": gatherings.podium,
    "crowd": gatherings.crowd,
    "interior": gatherings.interior,
    "field": outdoors.field,
}
