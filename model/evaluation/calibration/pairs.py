"""Pairs of a picture and a text, each with the parts of its score and whether it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.config import PARTS

FOLDS = 5


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Labelled pairs as they are met in use: the share of right ones is learnt too.

    Args:
        cosine: [N] float64.
        label: [N] bool, whether picture and text are about the same entity.
        group: [N] of any kind; pairs of one group (one text, one entity) are never on both sides of a fold.
        explanation_similarity, entity_overlap, itm, margin: [N] float64 as `model.calibration.PairParts` has
            them, NaN where a pair has none; None where no pair has.

    Raises:
        ValueError: different lengths, none at all, or a cosine that is not finite.
    """

    cosine: NDArray[np.float64]
    label: NDArray[np.bool_]
    group: NDArray[np.generic]
    explanation_similarity: NDArray[np.float64] | None = None
    entity_overlap: NDArray[np.float64] | None = None
    itm: NDArray[np.float64] | None = None
    margin: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not len(self.cosine):
            raise ValueError("there are no labelled pairs")
        given = [getattr(self, name) for name in ("label", "group", *PARTS)]
        if any(each is not None and each.shape != self.cosine.shape for each in given):
            raise ValueError("labelled pairs need arrays of one length")
        if not np.isfinite(self.cosine).all():
            raise ValueError("a labelled pair has no finite cosine")

    def __len__(self) -> int:
        return len(self.cosine)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.group))

    def where(self, kept: NDArray[np.bool_]) -> LabelledPairs:
        """The pairs that are kept. [N] bool."""
        columns = {name: getattr(self, name) for name in ("label", "group", *PARTS)}
        return replace(self, **{name: each[kept] for name, each in columns.items() if each is not None})

    def matrix(self, names: Sequence[str]) -> NDArray[np.float64]:
        """The named parts beside each other, NaN for missing. [N, len(names)] float64."""
        columns = [getattr(self, name) for name in names]
        return np.column_stack(
            [np.full(len(self), np.nan) if each is None else each.astype(np.float64) for each in columns]
        )

    def common_parts(self) -> tuple[str, ...]:
        """The parts that at least half of the pairs have, the cosine first."""
        present = np.isfinite(self.matrix(PARTS)).mean(axis=0)
        return tuple(name for name, share in zip(PARTS, present, strict=True) if share >= 0.5)

    def folds(self, seed: int = 0) -> NDArray[np.int64]:
        """Which of up to five folds each pair is in: whole groups, those with right pairs dealt out evenly.

        Raises:
            ValueError: leaving out some fold leaves only one kind of label, so nothing can be held out.
        """
        _, group = np.unique(self.group, return_inverse=True)
        right = np.bincount(group, weights=self.label) > 0
        shuffled = np.random.default_rng(seed).permutation(len(right))
        dealt = shuffled[np.argsort(~right[shuffled], kind="stable")]
        fold_of = np.empty(len(right), np.int64)
        fold_of[dealt] = np.arange(len(right)) % min(FOLDS, len(right))
        fold = fold_of[group]
        for each in range(int(fold.max()) + 1):
            if len(np.unique(self.label[fold != each])) < 2:
                raise ValueError("calibration needs pairs of both kinds, right and wrong, in several groups")
        return fold
