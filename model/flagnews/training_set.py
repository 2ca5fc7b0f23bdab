"""FlagNews as training batches: distinct looks in every batch, the same batch for the same step.

Looks, pictures and captions of a step depend on the seed alone: whatever is done with the explanations, the
arms of an experiment see the same pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.flagnews.bank import BankConfig, PictureBank, generator_hash
from model.flagnews.captions import caption
from model.flagnews.entities import Entity, folds, real_entities
from model.flagnews.explanations import explanations
from model.text_mode import TextMode, pair_texts
from model.training.batches import Batch

_DERANGEMENT_TAG = 0xDE7A


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How batches are drawn from the bank.

    Args:
        batch_size: B.
        unseen_fold: looks of this fold (0 to 4) are held out; None trains on all of them.
        real_fraction: part of a batch that shows real flags; the rest are invented ones.
        curriculum_steps: steps over which small flags come in; at first only the larger ones of each entity.
        explanation_dropout: probability that a row has no explanation; 1 leaves all of them out.
        text: what the text of a pair is, see `pair_texts`.
        shuffle_explanations: each look gets the explanations of one other, always the same, of its kind (real
            or invented): the control that keeps the words and takes away what they say.
        shift: pictures are shifted by up to this many pixels, edges repeated.
    """

    batch_size: int
    unseen_fold: int | None = 0
    real_fraction: float = 0.75
    curriculum_steps: int = 0
    explanation_dropout: float = 0.2
    text: TextMode = "caption"
    shuffle_explanations: bool = False
    shift: int = 4


_FIRST_FRACTION = 0.35  # of each entity's pictures, the largest flags first


class FlagNewsTraining:
    """`TrainingData` over a bank.

    Args:
        seed: of the sampling, not of the pictures.

    Raises:
        ValueError: the bank holds too few looks for a batch of distinct ones.
    """

    def __init__(
        self, bank: PictureBank, bank_config: BankConfig, sampling: SamplingConfig, seed: int
    ) -> None:
        self._bank, self._bank_config, self._sampling, self._seed = bank, bank_config, sampling, seed
        fold_of = folds(real_entities())
        pictures: dict[int, list[int]] = defaultdict(list)
        for index in np.argsort(-bank.share, kind="stable"):  # large flags first
            pictures[int(bank.entities[bank.entity[index]].look)].append(int(index))
        self._pictures = {look: np.array(indices) for look, indices in pictures.items()}
        self._real = [
            look for look in self._pictures if look in fold_of and fold_of[look] != sampling.unseen_fold
        ]
        self._invented = [look for look in self._pictures if look not in fold_of]
        self._real_count = min(round(sampling.batch_size * sampling.real_fraction), len(self._real))
        if sampling.batch_size - self._real_count > len(self._invented):
            raise ValueError(
                f"{len(self._real)} real and {len(self._invented)} invented looks are too few "
                f"for batches of {sampling.batch_size}"
            )
        first = {entity.look: entity for entity in reversed(bank.entities)}
        groups = (sorted(self._real), sorted(self._invented))
        self._explained_as = (
            {look: first[other] for group in groups for look, other in derangement(group).items()}
            if sampling.shuffle_explanations
            else {}
        )

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, step])
        size = self._sampling.batch_size
        looks = [
            *rng.choice(self._real, self._real_count, replace=False),
            *rng.choice(self._invented, size - self._real_count, replace=False),
        ]
        indices = np.array([self._picture(int(look), step, rng) for look in looks])
        entities = [self._bank.entities[self._bank.entity[index]] for index in indices]
        kept = rng.random(size) >= self._sampling.explanation_dropout
        pixels = _shift(self._bank.pixels[indices], rng, self._sampling.shift)
        captions = [caption(entity.name, rng, "train") for entity in entities]
        # drawn last: what is kept of the explanations must not change the pictures and captions of an arm
        explained = [
            self._explanation(entity, rng) if keep else ""
            for entity, keep in zip(entities, kept, strict=True)
        ]
        mode = self._sampling.text
        rows = [pair_texts(mode, one, other) for one, other in zip(captions, explained, strict=True)]
        return Batch(
            pixels=pixels,
            captions=[text for text, _ in rows],
            explanations=[explanation for _, explanation in rows],
            image_group=np.array(looks, dtype=np.int64),
            text_group=np.array(looks, dtype=np.int64),
        )

    def facts(self) -> dict[str, object]:
        return {
            "name": "FlagNews",
            "generator": generator_hash(),
            "bank": asdict(self._bank_config),
            "sampling": asdict(self._sampling),
            "real_looks": len(self._real),
            "invented_looks": len(self._invented),
        }

    def _picture(self, look: int, step: int, rng: np.random.Generator) -> int:
        pictures = self._pictures[look]
        progress = (
            min(1.0, step / self._sampling.curriculum_steps) if self._sampling.curriculum_steps else 1.0
        )
        allowed = _FIRST_FRACTION + (1 - _FIRST_FRACTION) * progress
        return int(pictures[rng.integers(max(1, round(allowed * len(pictures))))])

    def _explanation(self, entity: Entity, rng: np.random.Generator) -> str:
        options = _explanations(self._explained_as.get(entity.look, entity))
        return options[rng.integers(len(options))]


def derangement(items: Sequence[int], seed: int = 0) -> dict[int, int]:
    """Give every item another one, each once, by one seeded cycle through all of them.

    Raises:
        ValueError: a single item has no other.
    """
    if len(items) == 1:
        raise ValueError("a single item cannot be given another")
    order = np.random.default_rng([_DERANGEMENT_TAG, seed]).permutation(np.array(items, dtype=np.int64))
    return dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))


@cache
def _explanations(entity: Entity) -> tuple[str, ...]:
    return explanations(entity, "train")


def _shift(pixels: NDArray[np.uint8], rng: np.random.Generator, reach: int) -> NDArray[np.uint8]:
    """Shift every picture by its own offset. [B, S, S, 3] -> the same."""
    if not reach:
        return pixels
    count, size = pixels.shape[:2]
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    offsets = rng.integers(0, 2 * reach + 1, size=(count, 2))
    return np.stack([padded[row, y : y + size, x : x + size] for row, (y, x) in enumerate(offsets)])
