"""The gate: what more than the two plain encoders must show before it is served.

A variant *helps* when the 95 % bootstrap interval of its paired gain is above 0 and true explanations beat
shuffled ones. The units of the bootstrap are looks: pools, folds and directions of one look go together.

    1. Q or C against P: unseen R@10 gains 5 points, seen R@10 loses at most half one, true beats shuffled.
    2. R over the winner: R@1 or precision at fixed coverage gains 2 points, its interval above 0.
    3. Pairwise V* only if R fails.

Where concatenation ties the heads, it is the winner: it needs none of them at serving time.

Source of the bootstrap: Efron (1979), percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MIN_UNSEEN_GAIN = 0.05  # R@10, step 1
MAX_SEEN_LOSS = 0.005  # R@10, step 1
MIN_RERANK_GAIN = 0.02  # R@1 or precision at COVERAGE, steps 2 and 3
COVERAGE = 0.5  # part of the queries that is answered, the surest first
SAMPLES = 4000
_CHUNK_CELLS = 1_000_000  # of the matrix of draws that is held at once


@dataclass(frozen=True, slots=True)
class Tally:
    """A rate, counted by unit.

    Args:
        hits: [U] float64.
        tries: [U] float64; the rate is Σ hits / Σ tries.
    """

    hits: NDArray[np.float64]
    tries: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.generic]) -> Tally:
        """One try a unit. [U] bool or float."""
        hits = np.asarray(values, np.float64)
        return cls(hits, np.ones_like(hits))

    @property
    def rate(self) -> float:
        return float(self.hits.sum() / self.tries.sum())


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % bootstrap interval, 0 to 1 or a difference of such."""

    mean: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    def __str__(self) -> str:
        """In points: `+6.1 [4.0, 8.2]`."""
        return f"{100 * self.mean:+.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bootstrap(tally: Tally, *, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """Interval of one rate.

    Raises:
        ValueError: no tries.
    """
    resampled = _resampled([tally], samples, seed)[0]
    return _interval(tally.rate, resampled)


def paired_bootstrap(candidate: Tally, baseline: Tally, *, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """Interval of candidate − baseline, the same units drawn for both.

    Raises:
        ValueError: not the same number of units, or no tries.
    """
    if len(candidate.hits) != len(baseline.hits):
        raise ValueError(f"{len(candidate.hits)} and {len(baseline.hits)} units cannot be paired")
    first, second = _resampled([candidate, baseline], samples, seed)
    return _interval(candidate.rate - baseline.rate, first - second)


def _resampled(tallies: Sequence[Tally], samples: int, seed: int) -> list[NDArray[np.float64]]:
    """Rates under resampled units, [samples] a tally; a sample without tries is left out of all of them."""
    if not all(tally.tries.sum() > 0 for tally in tallies):
        raise ValueError("there is nothing to resample: no query was counted")
    columns = np.stack([part for tally in tallies for part in (tally.hits, tally.tries)], axis=1)  # [U, 2T]
    sums = np.concatenate([counts @ columns for counts in _draws(len(columns), samples, seed)])
    hits, tries = sums[:, 0::2], sums[:, 1::2]  # [samples, T]
    usable = (tries > 0).all(axis=1)
    return list((hits[usable] / tries[usable]).T)


def _draws(units: int, samples: int, seed: int) -> Iterable[NDArray[np.float64]]:
    """How often each unit is drawn in each sample, [n, U] at a time; the same seed draws the same."""
    if units * samples <= _CHUNK_CELLS:
        return _kept_draws(units, samples, seed)
    return _new_draws(units, samples, seed)


@lru_cache(maxsize=4)
def _kept_draws(units: int, samples: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """A report asks for hundreds of intervals over the same few units."""
    return tuple(_new_draws(units, samples, seed))


def _new_draws(units: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // units)
    for start in range(0, samples, chunk):
        count = min(chunk, samples - start)
        drawn = rng.integers(units, size=(count, units)) + np.arange(count)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=count * units)
        yield counts.reshape(count, units).astype(np.float64)


def _interval(estimate: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(estimate, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate knows of one variant, both directions together.

    Args:
        name: for the sentences, such as `Q (full)`.
        unseen, seen: R@10 of the queries about unseen and seen looks, with true explanations.
        unseen_shuffled: R@10 with shuffled ones; None for a variant that reads none.
        top1: R@1 of all queries.
        precision: rate of right first hits among the surest queries (`COVERAGE` of all).
    """

    name: str
    unseen: Tally
    seen: Tally
    unseen_shuffled: Tally | None
    top1: Tally
    precision: Tally


@dataclass(frozen=True, slots=True)
class Verdict:
    """One step of the gate.

    Args:
        winner: name of the variant that goes on from here.
        sentence: what was decided and by which numbers.
    """

    step: int
    passed: bool
    winner: str
    sentence: str


def helps(candidate: Tally, baseline: Tally, shuffled: Tally) -> bool:
    """Whether the paired gain's interval is above 0, and so is that of true over shuffled explanations."""
    return (
        paired_bootstrap(candidate, baseline).above_zero and paired_bootstrap(candidate, shuffled).above_zero
    )


def run_gate(
    plain: Evidence,
    heads: Sequence[Evidence],
    concatenation: Evidence,
    reranked: dict[str, Evidence],
    pairwise: dict[str, Evidence] | None = None,
) -> list[Verdict]:
    """All three steps.

    Args:
        plain: P.
        heads: Q of one or several arms.
        concatenation: C.
        reranked, pairwise: the variant's name → the same variant with its first hits re-ranked by GI-ITM, or
            by pairwise V*. What is not there was not measured.

    Returns:
        Three verdicts; the last one's winner is what is to be served.
    """
    first, winner = _first_step(plain, heads, concatenation)
    second, winner = _second_step(winner, reranked.get(winner.name))
    third = _third_step(second, winner, (pairwise or {}).get(winner.name))
    return [first, second, third]


def _first_step(
    plain: Evidence, heads: Sequence[Evidence], concatenation: Evidence
) -> tuple[Verdict, Evidence]:
    judged = [(candidate, *_judge(candidate, plain)) for candidate in [*heads, concatenation]]
    reasons = "; ".join(reason for _, _, reason in judged)
    passing = [candidate for candidate, passed, _ in judged if passed]
    if not passing:
        sentence = f"Neither passes, {plain.name} alone is served: {reasons}."
        return Verdict(1, False, plain.name, sentence), plain
    best_head = max(
        (candidate for candidate in passing if candidate is not concatenation),
        key=lambda candidate: candidate.unseen.rate,
        default=None,
    )
    if best_head is None or not any(candidate is concatenation for candidate in passing):
        winner = best_head or concatenation
        return Verdict(1, True, winner.name, f"{winner.name} alone passes: {reasons}."), winner
    over = paired_bootstrap(best_head.unseen, concatenation.unseen)
    winner = best_head if over.above_zero else concatenation
    word = "beats" if over.above_zero else "does not beat"
    sentence = (
        f"{winner.name} goes on: {best_head.name} {word} plain concatenation ({over} points of unseen R@10); "
        f"{reasons}."
    )
    return Verdict(1, True, winner.name, sentence), winner


def _judge(candidate: Evidence, plain: Evidence) -> tuple[bool, str]:
    gain = paired_bootstrap(candidate.unseen, plain.unseen)
    seen = paired_bootstrap(candidate.seen, plain.seen)
    if candidate.unseen_shuffled is None:
        raise ValueError(f"{candidate.name} was not measured with shuffled explanations")
    over_shuffled = paired_bootstrap(candidate.unseen, candidate.unseen_shuffled)
    passed = (
        gain.mean >= MIN_UNSEEN_GAIN
        and gain.above_zero
        and seen.mean >= -MAX_SEEN_LOSS
        and over_shuffled.above_zero
    )
    word = "passes" if passed else "fails"
    reason = (
        f"{candidate.name} {word} against {plain.name} with unseen R@10 {gain} "
        f"(needs {100 * MIN_UNSEEN_GAIN:+.0f}), seen {seen} (needs {-100 * MAX_SEEN_LOSS:+.1f}), "
        f"true over shuffled {over_shuffled}"
    )
    return passed, reason


def _second_step(winner: Evidence, reranked: Evidence | None) -> tuple[Verdict, Evidence]:
    if reranked is None:
        sentence = f"GI-ITM over {winner.name} was not measured: {winner.name} stays as it is."
        return Verdict(2, False, winner.name, sentence), winner
    passed, reason = _judge_top(reranked, winner)
    after = reranked if passed else winner
    word = "passes" if passed else "fails"
    return Verdict(2, passed, after.name, f"{reranked.name} {word}: {reason}."), after


def _third_step(second: Verdict, winner: Evidence, pairwise: Evidence | None) -> Verdict:
    if second.passed:
        return Verdict(
            3, False, winner.name, "Pairwise V* is not considered, since re-ranking by GI-ITM passed."
        )
    if pairwise is None:
        sentence = f"Pairwise V* was not measured: {winner.name} is served."
        return Verdict(3, False, winner.name, sentence)
    passed, reason = _judge_top(pairwise, winner)
    word, name = ("passes", pairwise.name) if passed else ("fails", winner.name)
    return Verdict(3, passed, name, f"{pairwise.name} {word}: {reason}; {name} is served.")


def _judge_top(candidate: Evidence, winner: Evidence) -> tuple[bool, str]:
    gains = {
        "R@1": paired_bootstrap(candidate.top1, winner.top1),
        f"precision at {COVERAGE:.0%} coverage": paired_bootstrap(candidate.precision, winner.precision),
    }
    passed = any(gain.mean >= MIN_RERANK_GAIN and gain.above_zero for gain in gains.values())
    numbers = ", ".join(f"{name} {gain}" for name, gain in gains.items())
    return passed, f"{numbers} (one needs {100 * MIN_RERANK_GAIN:+.0f} with its interval above 0)"
