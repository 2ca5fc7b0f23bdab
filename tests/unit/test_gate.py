"""The gate on made-up results whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.gate import (
    Evidence,
    Tally,
    bootstrap,
    helps,
    paired_bootstrap,
    run_gate,
)

LOOKS, TRIES = 200, 40


def _tally(rate: float, seed: int = 0, units: int = LOOKS) -> Tally:
    """Looks of unequal difficulty, so that pairing matters; one seed, one set of looks and queries."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=(units, 1)) + 0.1 * rng.normal(size=(units, TRIES))
    cut = np.quantile(difficulty, rate)
    return Tally((difficulty < cut).sum(axis=1).astype(float), np.full(units, float(TRIES)))


def _evidence(
    name: str, unseen: float, *, seen: float = 0.6, shuffled: float | None = None, top1: float = 0.3
) -> Evidence:
    return Evidence(
        name=name,
        unseen=_tally(unseen),
        seen=_tally(seen, seed=1),
        unseen_shuffled=None if shuffled is None else _tally(shuffled),
        top1=_tally(top1, seed=2),
        precision=_tally(top1, seed=3),
    )


P = _evidence("P", 0.05)


def test_an_interval_holds_the_rate_and_shrinks_with_units() -> None:
    few, many = bootstrap(_tally(0.4, units=50)), bootstrap(_tally(0.4, units=2000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    intervals = [bootstrap(Tally.of(rng.random(150) < 0.3), samples=400, seed=n) for n in range(300)]
    covered = np.mean([one.low <= 0.3 <= one.high for one in intervals])
    assert 0.90 < covered < 0.98


def test_pairing_finds_a_gain_that_unpaired_looks_would_hide() -> None:
    paired = paired_bootstrap(_tally(0.53), _tally(0.5))
    unpaired = paired_bootstrap(_tally(0.53, seed=7), _tally(0.5))
    assert paired.above_zero
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 2


def test_units_are_weighed_by_their_tries() -> None:
    tally = Tally(np.array([1.0, 0.0]), np.array([1.0, 9.0]))
    assert tally.rate == pytest.approx(0.1)


def test_chunks_do_not_change_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(_tally(0.4), samples=500)
    monkeypatch.setattr("model.evaluation.gate._CHUNK_CELLS", 1000)
    assert bootstrap(_tally(0.4), samples=500) == whole


def test_unequal_units_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="50 and 200 units"):
        paired_bootstrap(_tally(0.5, units=50), _tally(0.5))


def test_nothing_counted_is_an_error() -> None:
    with pytest.raises(ValueError, match="no query was counted"):
        bootstrap(Tally(np.zeros(5), np.zeros(5)))


def test_a_gain_that_shuffled_explanations_give_too_does_not_help() -> None:
    assert helps(_tally(0.3), _tally(0.1), shuffled=_tally(0.1))
    assert not helps(_tally(0.3), _tally(0.1), shuffled=_tally(0.3))
    assert not helps(_tally(0.1), _tally(0.1), shuffled=_tally(0.05))


def test_a_clear_win_of_the_heads_passes_and_names_the_winner() -> None:
    first, second, third = run_gate(
        P,
        [_evidence("Q", 0.40, shuffled=0.05)],
        _evidence("C", 0.20, shuffled=0.05),
        {"Q": _evidence("R over Q", 0.40, shuffled=0.05, top1=0.40)},
    )
    assert (first.passed, first.winner) == (True, "Q")
    assert (second.passed, second.winner) == (True, "R over Q")
    assert (third.passed, third.winner) == (False, "R over Q")
    assert "not considered" in third.sentence


def test_where_concatenation_ties_the_heads_it_is_served() -> None:
    first, *_ = run_gate(P, [_evidence("Q", 0.30, shuffled=0.05)], _evidence("C", 0.30, shuffled=0.05), {})
    assert (first.passed, first.winner) == (True, "C")
    assert "Q does not beat plain concatenation" in first.sentence


def test_heads_that_fail_leave_a_passing_concatenation() -> None:
    first, *_ = run_gate(P, [_evidence("Q", 0.06, shuffled=0.05)], _evidence("C", 0.3, shuffled=0.05), {})
    assert (first.passed, first.winner) == (True, "C")


@pytest.mark.parametrize(
    "candidate",
    [
        _evidence("Q", 0.03, shuffled=0.03),
        _evidence("Q", 0.08, shuffled=0.04),  # 3 points are fewer than 5
        _evidence("Q", 0.40, shuffled=0.40),  # shuffled explanations do as well
        _evidence("Q", 0.40, seen=0.58, shuffled=0.05),  # seen looks lose 2 points
    ],
    ids=["loss", "too little", "true equals shuffled", "seen loses"],
)
def test_what_misses_one_condition_fails_and_p_is_served(candidate: Evidence) -> None:
    last = run_gate(P, [candidate], _evidence("C", 0.05, shuffled=0.05), {})
    assert [verdict.passed for verdict in last] == [False, False, False]
    assert last[-1].winner == "P"
    assert "P alone is served" in last[0].sentence


def test_reranking_that_gains_too_little_falls_back_to_pairwise() -> None:
    candidates = ([_evidence("Q", 0.4, shuffled=0.05)], _evidence("C", 0.05, shuffled=0.05))
    little = {"Q": _evidence("R over Q", 0.4, top1=0.31)}
    much = {"Q": _evidence("V over Q", 0.4, top1=0.36)}
    without = run_gate(P, *candidates, little)
    assert [verdict.passed for verdict in without] == [True, False, False]
    assert without[-1].winner == "Q"
    assert run_gate(P, *candidates, little, much)[-1].winner == "V over Q"
    assert run_gate(P, *candidates, little, little)[-1].winner == "Q"


def test_a_variant_without_its_control_is_refused() -> None:
    with pytest.raises(ValueError, match="Q was not measured with shuffled"):
        run_gate(P, [_evidence("Q", 0.4)], _evidence("C", 0.3, shuffled=0.05), {})
