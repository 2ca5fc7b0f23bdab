"""Exact ranks and top k of N queries among M candidates, a chunk at a time.

Why ties are exact stands in `model.evaluation.exact_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.evaluation.exact_scores import Indices, Scores

__all__ = ["Ranks", "Scores", "ranks", "top_k"]

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the right answers stand, from 1.

    Args:
        strict: [N] int64; one right answer a query, every candidate that scores as well counts against it.
        duplicate_aware: [N] int64; any candidate of the right answer's groups is right too: the rank of the
            best of them, the others not counted against it.
    """

    strict: Indices
    duplicate_aware: Indices


def ranks(
    scores: Scores, own: Indices, groups: Sequence[Indices] = (), *, on_progress: Progress | None = None
) -> Ranks:
    """Rank every query's right answer.

    Args:
        own: [N] int64, the one candidate that is strictly right.
        groups: up to two partitions of the candidates ([M] int64 each: same picture, same caption); whatever
            shares a group with `own` in one of them is right too.
        on_progress: called with the number of scores that were computed since the last call.

    Raises:
        ValueError: more than two partitions, or `own` does not fit.
    """
    if len(own) != scores.query_count or (
        len(own) and not 0 <= own.min() <= own.max() < scores.candidate_count
    ):
        raise ValueError("every query needs one right answer among the candidates")
    own_score = scores.pairs(np.arange(len(own)), own)  # [N]
    best, right = _best_right(scores, own, own_score, groups)
    strict = torch.zeros(len(own), dtype=torch.long, device=own_score.device)
    aware = torch.zeros_like(strict)
    for chosen, _, block in scores.blocks():
        strict[chosen] += (block >= own_score[chosen].unsqueeze(1)).sum(dim=1)
        aware[chosen] += (block >= best[chosen].unsqueeze(1)).sum(dim=1)
        if on_progress is not None:
            on_progress(block.numel())
    aware += 1 - right
    return Ranks(strict.cpu().numpy(), aware.cpu().numpy())


def _best_right(
    scores: Scores, own: Indices, own_score: Tensor, groups: Sequence[Indices]
) -> tuple[Tensor, Tensor]:
    """The best score of any right candidate, and how many right candidates have it. [N] float64, [N] int64.

    Right is the union of two partitions; its size is |A| + |B| - |A and B|, and the last is a partition too.
    """
    if len(groups) > 2:
        raise ValueError("at most two partitions of the candidates")
    if not groups:
        return own_score, torch.ones_like(own_score, dtype=torch.long)
    best = own_score.clone()
    partitions = [_Partition(group, own) for group in groups]
    for partition in partitions:
        for queries, chosen, block in partition.blocks(scores):
            rows = torch.from_numpy(queries[chosen]).to(best.device)
            best[rows] = torch.maximum(best[rows], block.amax(dim=1))
    count = sum(partition.count_at_least(scores, best, own_score) for partition in partitions)
    if len(groups) == 2:
        count = count - _Partition(_both(*groups), own).count_at_least(scores, best, own_score)
    assert isinstance(count, Tensor)
    return best, count


def _both(first: Indices, second: Indices) -> Indices:
    """The partition into what is equal in both. [M], [M] -> [M] int64."""
    _, inverse = np.unique(np.stack([first, second]), axis=1, return_inverse=True)
    return np.asarray(inverse, np.int64)


class _Partition:
    """The groups of more than one candidate, with the queries whose right answer is among them."""

    def __init__(self, group: Indices, own: Indices) -> None:
        _, number, size = np.unique(group, return_inverse=True, return_counts=True)
        members = np.split(np.argsort(number, kind="stable"), np.cumsum(size)[:-1])
        asked, askers = np.unique(number[own], return_counts=True)
        queries = np.split(np.argsort(number[own], kind="stable"), np.cumsum(askers)[:-1])
        self._groups = [
            (asking, members[which]) for which, asking in zip(asked, queries, strict=True) if size[which] > 1
        ]

    def blocks(self, scores: Scores) -> Iterator[tuple[Indices, slice, Tensor]]:
        """Queries of a group, which of them, and their scores with (part of) its candidates."""
        for queries, candidates in self._groups:
            for chosen, _, block in scores.blocks(queries, candidates):
                yield queries, chosen, block

    def count_at_least(self, scores: Scores, best: Tensor, own_score: Tensor) -> Tensor:
        """How many candidates of its own group score at least `best` with each query. [N] int64."""
        count = (own_score >= best).long()
        for queries, _ in self._groups:
            count[torch.from_numpy(queries).to(count.device)] = 0  # the group holds the query's own
        for queries, chosen, block in self.blocks(scores):
            rows = torch.from_numpy(queries[chosen]).to(count.device)
            count[rows] += (block >= best[rows].unsqueeze(1)).sum(dim=1)
        return count


def top_k(scores: Scores, k: int, *, on_progress: Progress | None = None) -> Indices:
    """The k best candidates of every query, by score and then by index.

    Returns:
        [N, k] int64; candidates without a vector come last.

    Raises:
        ValueError: k is no number from 1 to the number of candidates.
    """
    if not 1 <= k <= scores.candidate_count:
        raise ValueError(f"the top {k} of {scores.candidate_count} candidates: there are not so many")
    result = np.empty((scores.query_count, k), np.int64)
    kept_scores = kept_index = torch.empty(0)
    for chosen, among, block in scores.blocks():
        index = torch.arange(among.start, among.stop, device=block.device).expand(len(block), -1)
        if among.start:
            block, index = torch.cat([kept_scores, block], dim=1), torch.cat([kept_index, index], dim=1)  # noqa: PLW2901
        kept_scores, kept_index = _first_k(block, index, min(k, block.shape[1]))
        if among.stop == scores.candidate_count:
            order = kept_scores.sort(dim=1, descending=True, stable=True).indices
            result[chosen] = kept_index.gather(1, order).cpu().numpy()
        if on_progress is not None:
            on_progress(len(block) * (among.stop - among.start))
    return result


def _first_k(scores: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of a row, of equal ones the first; in the order they stand in.

    `torch.topk` does not say which of equal scores it takes, so only its least score is used.

    Shapes: [q, c], [q, c] -> [q, k], [q, k].
    """
    least = scores.topk(k, dim=1).values[:, -1:]  # [q, 1]
    taken = scores >= least
    crowded = taken.sum(dim=1) > k  # ties for the last place
    if bool(crowded.any()):
        part = scores[crowded]
        above, level = part > least[crowded], part == least[crowded]
        room = k - above.sum(dim=1, keepdim=True)
        taken[crowded] = above | (level & (level.cumsum(dim=1) <= room))
    shape = (len(scores), k)
    return scores[taken].view(shape), index[taken].view(shape)
