"""Probabilities and emitted matches against what is known: the numbers of `benchmarks.matching_stream`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.matching_posts import Truth
from benchmarks.matching_runs import Candidates
from model.config import MatchingConfig
from model.evaluation.calibration import (
    LabelledPairs,
    Report,
    apply,
    best_f1,
    fit,
    held_out,
    measure,
    threshold_for,
    wilson,
)
from worker.types import Match

Emitted = Sequence[tuple[str, str]]  # text post, picture post


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and the thresholds chosen with it, all on the same labelled pairs.

    Args:
        best: threshold of the highest F1.
        precise: threshold of the wanted precision; None where none keeps it.
    """

    matching: MatchingConfig
    best: float
    precise: float | None


@dataclass(frozen=True, slots=True)
class Emission:
    """What one threshold emits.

    Args:
        emitted, right: matches.
        pairs: that there are to be found; `found` of them were.
        low: lower end of the precision's 95 % Wilson interval.
        partnered: posts that have a partner; `covered` of them are in an emitted match, right or wrong.
    """

    emitted: int
    right: int
    low: float
    pairs: int
    found: int
    partnered: int
    covered: int

    @property
    def precision(self) -> float | None:
        """None where nothing was emitted."""
        return self.right / self.emitted if self.emitted else None

    @property
    def recall(self) -> float:
        """Of the pairs that there are."""
        return self.found / self.pairs if self.pairs else 0.0

    @property
    def coverage(self) -> float:
        """The part of the posts with a partner that are in an emitted match."""
        return self.covered / self.partnered if self.partnered else 0.0


@dataclass(frozen=True, slots=True)
class Flags:
    """Posts of a text and a picture, and which of them a match calls out of context.

    Args:
        matched_swapped: swapped ones that are in any emitted match, and so can be flagged at all.
    """

    swapped: int
    right: int
    matched_swapped: int
    flagged: int
    flagged_swapped: int


def fit_thresholds(
    pairs: LabelledPairs, parts: Sequence[str] | None, positives: int, precision: float
) -> Fitted:
    """Fit, and choose thresholds by the probabilities of held-out folds.

    Args:
        parts: None lets the held-out loss decide, and between Platt and isotonic regression too.
        positives: pairs that there were to be found.

    Raises:
        ValueError: the labels do not rise with the cosine.
    """
    matching = fit(pairs, "auto" if parts is None else "platt", parts)
    method: Literal["platt", "isotonic"] = "isotonic" if matching.knots else "platt"
    probabilities = held_out(pairs, method, tuple(matching.weights))
    choice = threshold_for(probabilities, pairs.label, precision, positives)
    best = best_f1(probabilities, pairs.label, positives).threshold
    return Fitted(matching, best, None if choice is None else choice.threshold)


def scored(fitted: Sequence[Fitted], measured: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """Each set's probabilities by the calibration that is not its own."""
    return [apply(one.matching, each.pairs) for one, each in zip(fitted, measured, strict=True)]


def report(probabilities: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.bool_]]) -> Report:
    """Losses and reliability of several sets together."""
    return measure(np.concatenate(list(probabilities)), np.concatenate(list(labels)))


def emission(emitted: Emitted, truth: Truth, looks: set[int]) -> Emission:
    """Count the emitted matches, and the pairs, whose text names one of the looks."""
    pairs = {pair for pair in truth.pairs if truth.text_look(pair[0]) in looks}
    chosen = {pair for pair in emitted if truth.text_look(pair[0]) in looks}
    right = len(chosen & pairs)
    posts = {post for pair in pairs for post in pair}
    covered = {post for pair in chosen for post in pair} & posts
    return Emission(
        len(chosen), right, wilson(right, len(chosen))[0], len(pairs), right, len(posts), len(covered)
    )


def flags(emitted: Sequence[Match], truth: Truth) -> Flags:
    """Which posts the emitted matches call out of context, against which ones are."""
    matched = {post for match in emitted for post in (match.text_post_id, match.image_post_id)}
    flagged = {post for match in emitted for post in match.out_of_context}
    return Flags(
        swapped=len(truth.swapped),
        right=len(truth.both - truth.swapped),
        matched_swapped=len(truth.swapped & matched),
        flagged=len(flagged),
        flagged_swapped=len(flagged & truth.swapped),
    )


def merged(truths: Sequence[Truth]) -> Truth:
    """Several disjoint sets of posts as one."""
    posts = {name: post for truth in truths for name, post in truth.posts.items()}
    return Truth(posts, frozenset(pair for truth in truths for pair in truth.pairs))
