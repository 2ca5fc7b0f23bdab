"""From cosines to probabilities: Platt scaling, and the threshold that goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import MatchingConfig


def fit_platt(cosines: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit probability = sigmoid(slope · cosine + intercept) by maximum likelihood.

    Args:
        cosines: [N], of labelled pairs as they are met in use (the base rate is learnt too).
        labels: [N], True for a pair about the same entity.

    Returns:
        slope, intercept.

    Raises:
        ValueError: only one kind of label.

    Source: Platt (1999), with his smoothed targets.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError("calibration needs pairs of both kinds")
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x, y = torch.from_numpy(np.asarray(cosines, np.float64)), torch.from_numpy(target)
    spread = float(x.std()) or 1.0
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = weights[0] * (x - x.mean()) / spread + weights[1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope = weights[0].item() / spread
    return slope, weights[1].item() - slope * float(x.mean())


def stream_pairs(
    scores: Sequence[NDArray[np.float32]], kept: NDArray[np.bool_], top_k: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The pairs a matcher would look at in a stream: each query's top hits, right and wrong.

    Args:
        scores: one [L, L] matrix of cosines a pool, images by texts, right pairs on the diagonal.
        kept: [L] which rows and columns take part.
        top_k: hits a query.

    Returns:
        cosines [N] and labels [N], both directions together.
    """
    cosines: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.bool_]] = []
    for matrix in scores:
        part = matrix[np.ix_(kept, kept)]
        right = np.eye(len(part), dtype=bool)
        for direction in (part, part.T):
            hits = np.argsort(-direction, axis=1)[:, :top_k]
            cosines.append(np.take_along_axis(direction, hits, axis=1).ravel())
            labels.append(np.take_along_axis(right, hits, axis=1).ravel())
    return np.concatenate(cosines).astype(np.float64), np.concatenate(labels)


def best_threshold(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], positives: int) -> float:
    """Return the probability whose pairs and better have the highest F1.

    Args:
        probabilities, labels: [N], of the pairs looked at.
        positives: right pairs there are, those included that no search found.
    """
    order = np.argsort(-probabilities, kind="stable")
    right = np.cumsum(labels[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + positives)
    return float(probabilities[order][int(np.argmax(f1))])


def fit_matching(
    scores: Sequence[NDArray[np.float32]], kept: NDArray[np.bool_], *, top_k: int = 5
) -> MatchingConfig:
    """Fit the matching section of a checkpoint on held-out pools; shapes as in `stream_pairs`.

    The threshold is the one of the highest F1.
    """
    cosines, labels = stream_pairs(scores, kept, top_k)
    slope, intercept = fit_platt(cosines, labels)
    probabilities = 1 / (1 + np.exp(-(slope * cosines + intercept)))
    positives = 2 * len(scores) * int(kept.sum())
    threshold = best_threshold(probabilities, labels, positives)
    return MatchingConfig(
        intercept=round(intercept, 4),
        weights={"cosine": round(slope, 4)},
        base_rate=round(float(labels.mean()), 6),
        threshold=round(threshold, 3),
    )
