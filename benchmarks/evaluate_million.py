"""Rank among a million candidates: time, and memory beyond the vectors.

    python benchmarks/evaluate_million.py --queries 2000

Random unit vectors; exact ranks (strict and duplicate-aware, every tenth candidate sharing a picture with
another) and the top 50, as `entityclip evaluate` computes them. The peak is the whole process's, so that
Python and torch count as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from model.evaluation.exact_scores import DEFAULT_BUDGET_BYTES, Scores
from model.evaluation.ranking import ranks, top_k

GIB = 1 << 30


def unit_vectors(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random directions, made a chunk at a time so that making them sets no peak. [count, width] float32."""
    vectors = np.empty((count, width), np.float32)
    for start in range(0, count, 1 << 14):
        part = rng.standard_normal((min(1 << 14, count - start), width), np.float32)
        vectors[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def measure(queries: int, candidates: int, width: int, device: str, budget_bytes: int) -> dict[str, float]:
    """Rank and report."""
    rng = np.random.default_rng(0)
    among = unit_vectors(candidates, width, rng)
    asked = unit_vectors(queries, width, rng)
    picture = np.arange(candidates)
    picture[::10] = picture[-1 - np.arange(0, candidates, 10)]
    started = time.perf_counter()
    scores = Scores(asked, among, device=device, budget_bytes=budget_bytes)
    found = ranks(scores, rng.integers(0, candidates, queries), [picture])
    ranked = time.perf_counter()
    best = top_k(scores, 50)
    done = time.perf_counter()
    vector_bytes = among.nbytes + asked.nbytes
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "queries": queries,
        "candidates": candidates,
        "width": width,
        "mean_rank": float(found.strict.mean()),
        "distinct_in_top_50": len(np.unique(best)),
        "rank_s": ranked - started,
        "top_k_s": done - ranked,
        "vectors_gib": vector_bytes / GIB,
        "beyond_vectors_gib": (peak - vector_bytes) / GIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-bytes", type=int, default=DEFAULT_BUDGET_BYTES)
    parser.add_argument("--json", action="store_true", help="one line of JSON and nothing else")
    chosen = parser.parse_args()
    result = measure(chosen.queries, chosen.candidates, chosen.width, chosen.device, chosen.budget_bytes)
    if chosen.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>20}  {value:,.2f}" if isinstance(value, float) else f"{name:>20}  {value:,}")


if __name__ == "__main__":
    main()
