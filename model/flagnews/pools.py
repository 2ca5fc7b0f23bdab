"""FlagNews as retrieval: pools with one new picture and one new caption of every look."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.flagnews.bank import PictureBank
from model.flagnews.captions import caption
from model.flagnews.entities import Entity, folds, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.photo import photo_sets
from model.flagnews.training_set import derangement

ExplanationKind = Literal["true", "empty", "shuffled"]
EXPLANATION_KINDS: tuple[ExplanationKind, ...] = get_args(ExplanationKind)


@dataclass(frozen=True, slots=True)
class Pool:
    """One picture and one caption a look, in the same order.

    Args:
        pixels: [L, S, S, 3] uint8.
        captions: L texts.
        look: [L] int64.
        share: [L] float32, part of its picture that the flag takes.
    """

    pixels: NDArray[np.uint8]
    captions: list[str]
    look: NDArray[np.int64]
    share: NDArray[np.float32]


def draw_pools(bank: PictureBank, count: int, seed: int = 0) -> list[Pool]:
    """Draw pools; no picture stands in two.

    Args:
        bank: of the test split, with real entities only.

    Raises:
        ValueError: a look has fewer pictures than there are pools.
    """
    pictures: dict[int, list[int]] = defaultdict(list)
    for index, look in enumerate(bank.looks):
        pictures[int(look)].append(index)
    if min(map(len, pictures.values())) < count:
        raise ValueError(f"the bank holds fewer than {count} pictures of some look")
    rng = np.random.default_rng([seed, 0xF1A6])
    order = [rng.permutation(indices)[:count] for _, indices in sorted(pictures.items())]
    return [_pool(bank, np.array([chosen[number] for chosen in order]), rng) for number in range(count)]


def _pool(bank: PictureBank, indices: NDArray[np.int64], rng: np.random.Generator) -> Pool:
    names = [bank.entities[entity].name for entity in bank.entity[indices]]
    return Pool(
        pixels=bank.pixels[indices],
        captions=[caption(name, rng, "test") for name in names],
        look=bank.looks[indices],
        share=bank.share[indices],
    )


def photo_pools(root: Path, size: int, count: int, seed: int = 0) -> list[Pool]:
    """Pools of FlagNews-photo: the real rendering of every look on a real photograph.

    Args:
        root: the folder that holds `pairs.jsonl` and `images/`.

    Raises:
        FileNotFoundError: no such data.
    """
    entity_of = entity_a_look()
    rng = np.random.default_rng([seed, 0xF107])
    pools = []
    for number in range(count):
        found = dict(photo_sets(root, size, seed * 1000 + number))
        looks = [look for look, entity in sorted(entity_of.items()) if entity.code in found]
        pictures = [found[str(entity_of[look].code)] for look in looks]
        pools.append(
            Pool(
                pixels=np.stack([picture.pixels for picture in pictures]),
                captions=[caption(entity_of[look].name, rng, "test") for look in looks],
                look=np.array(looks, dtype=np.int64),
                share=np.array([picture.share for picture in pictures], dtype=np.float32),
            )
        )
    return pools


def pool_explanations(pool: Pool, kind: ExplanationKind, seed: int) -> list[str]:
    """One explanation a caption, in the words of the test split.

    Args:
        kind: `true`; `empty`, none; `shuffled`, each caption gets that of another look, always the same one.
        seed: which of the paraphrases; the same for true and shuffled ones.

    Returns:
        L texts.
    """
    if kind == "empty":
        return [""] * len(pool.look)
    entity_of = entity_a_look()
    looks = pool.look.tolist()
    if kind == "shuffled":
        other = derangement(sorted(looks))
        looks = [other[look] for look in looks]
    options = [explanations(entity_of[look], "test") for look in looks]
    chosen = np.random.default_rng([seed, 0xE4B1]).integers(len(options[0]), size=len(options))
    return [texts[number] for texts, number in zip(options, chosen, strict=True)]


def entity_a_look() -> dict[int, Entity]:
    """Return the first real entity of every look."""
    first: dict[int, Entity] = {}
    for entity in real_entities():
        first.setdefault(entity.look, entity)
    return first


def seen_mask(looks: NDArray[np.int64], unseen_fold: int | None) -> NDArray[np.bool_]:
    """Return which real looks were trained on. [L] int64 -> [L] bool."""
    fold_of = folds(real_entities())
    return np.array([fold_of[int(look)] != unseen_fold for look in looks])
