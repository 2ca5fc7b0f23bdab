"""Inner products of queries and candidates without rounding, a block at a time.

Whether two scores tie decides a rank, and a float32 product of another shape has other last bits. So the
scores here are exact: every vector is rounded once to integers of at most 26 bits (finer than float32 for all
but its smallest components), and sums of their products stay below 2^53, where float64 holds every integer.
No sum rounds, whatever the order, the chunk, the library or the device, so equal vectors tie exactly, and the
right answer's score may be computed on its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]

DEFAULT_BUDGET_BYTES = 1 << 30
_GRID_BITS = 26  # of a component: 2 · 26 bits a product leave a factor of two below 2^53
_LARGEST_NORM = 1.25  # after scaling: 1.25² · 2^52 < 2^53, and unit vectors need no scaling
_QUERY_CHUNK = 8192


class Scores:
    """Inner products of queries and candidates, exact multiples of one unit, never all at once.

    Args:
        queries: [N, D] float32; a row that is not finite has no vector: it scores -inf with everything.
        candidates: [M, D] float32, likewise.
        device: where the products are computed; it needs float64.
        budget_bytes: of memory beyond the vectors, at most about this much.

    Raises:
        ValueError: the vectors are no matrices of the same width, or there are none.
    """

    def __init__(
        self,
        queries: Vectors,
        candidates: Vectors,
        *,
        device: str | torch.device = "cpu",
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> None:
        if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
            raise ValueError(f"vectors of shapes {queries.shape} and {candidates.shape} have no products")
        if not len(queries) or not len(candidates):
            raise ValueError("nothing to rank: no queries or no candidates")
        self._budget, self._device = budget_bytes, torch.device(device)
        self._step = max(1, min(1 << 16, budget_bytes // (32 * queries.shape[1])))  # rows at a time
        self._queries = _Grid(queries, self._device, self._step)
        self._candidates = _Grid(candidates, self._device, self._step)
        self.query_count, self.candidate_count = len(queries), len(candidates)

    def pairs(self, query: Indices, candidate: Indices) -> Tensor:
        """Score single pairs. [P], [P] -> [P] float64."""
        parts = []
        for start in range(0, len(query), self._step):
            left = self._queries.part(slice(start, start + self._step), query)
            right = self._candidates.part(slice(start, start + self._step), candidate)
            parts.append(self._masked((left.rows * right.rows).sum(dim=1), left.valid & right.valid))
        return torch.cat(parts)

    def blocks(
        self, queries: Indices | None = None, candidates: Indices | None = None
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Score every given query with every given candidate (all by default).

        Yields:
            which of the given queries, which of the given candidates, and their scores [q, c] float64;
            all candidates of some queries, in ascending order, before the next queries.
        """
        query_count = self.query_count if queries is None else len(queries)
        candidate_count = self.candidate_count if candidates is None else len(candidates)
        rows, columns = self._chunk(query_count, candidate_count)
        for top in range(0, query_count, rows):
            chosen = slice(top, min(top + rows, query_count))
            left = self._queries.part(chosen, queries)
            for start in range(0, candidate_count, columns):
                among = slice(start, min(start + columns, candidate_count))
                right = self._candidates.part(among, candidates)
                valid = left.valid.unsqueeze(1) & right.valid if not (left.whole and right.whole) else None
                yield chosen, among, self._masked(left.rows @ right.rows.T, valid)

    def _chunk(self, queries: int, candidates: int) -> tuple[int, int]:
        """How many queries and candidates a block has: float64 scores with two copies, float64 vectors."""
        width = 24 * self._queries.width
        rows = max(1, min(queries, _QUERY_CHUNK, self._budget // (4 * width)))
        columns = (self._budget - rows * width) // (24 * rows + width)
        return rows, max(1, min(candidates, columns))

    @staticmethod
    def _masked(scores: Tensor, valid: Tensor | None) -> Tensor:
        return scores if valid is None else scores.masked_fill_(~valid, -math.inf)


@dataclass(frozen=True, slots=True)
class _Part:
    rows: Tensor  # [n, D] float64, integers
    valid: Tensor  # [n] bool
    whole: bool  # all of them


class _Grid:
    """Vectors that are rounded to integers when they are taken. [N, D]."""

    def __init__(self, vectors: Vectors, device: torch.device, step: int) -> None:
        self._vectors, self._device = vectors, device
        self.width = vectors.shape[1]
        norms = torch.cat(
            [
                torch.from_numpy(np.linalg.norm(vectors[start : start + step].astype(np.float64), axis=1))
                for start in range(0, len(vectors), step)
            ]
        )
        finite = torch.isfinite(norms)
        largest = float(norms[finite].max()) if bool(finite.any()) else 1.0
        scale = math.ceil(math.log2(largest / _LARGEST_NORM)) if largest > 0 else 0
        self._factor = 2.0 ** (_GRID_BITS - scale)
        self.valid = finite.to(device)

    def rows(self, index: slice | Indices) -> Tensor:
        """[n, D] float64 on the device, integers; 0 where there is no vector."""
        rows = torch.from_numpy(np.array(self._vectors[index])).to(self._device).double()
        return rows.mul_(self._factor).round_().nan_to_num_(0.0, 0.0, 0.0)

    def part(self, chosen: slice, of: Indices | None) -> _Part:
        index = chosen if of is None else of[chosen]
        valid = self.valid[index]
        return _Part(self.rows(index), valid, bool(valid.all()))
