"""From the runs of `model.evaluation.arms` to a table with intervals and the gate's verdict.

The intervals are about looks: another training seed is not in them but for the folds, which have one each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.gate import (
    COVERAGE,
    MAX_SEEN_LOSS,
    Evidence,
    Interval,
    Tally,
    Verdict,
    bootstrap,
    helps,
    run_gate,
)
from model.evaluation.variants import Outcome, PoolScores, precision_tally, recall_tally
from model.flagnews.pools import EXPLANATION_KINDS

RERANK_TOP = 50
SHARES = tuple(round(0.1 * step, 1) for step in range(11))  # a of variant Q
_PLAIN, _CONCAT, _HEADS, _PAIRWISE = "clip", "concat", "full", "pairwise"

Masks = Sequence[NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class ArmScores:
    """The runs of one arm, one a fold.

    Args:
        test, validation: scores, in the order of the folds.
        seen: [L] a fold, the looks it was trained on.
    """

    name: str
    test: Sequence[PoolScores]
    validation: Sequence[PoolScores]
    seen: Masks

    @property
    def unseen(self) -> Masks:
        return [~mask for mask in self.seen]


@dataclass(frozen=True, slots=True)
class Row:
    """One variant of one arm with one kind of explanation.

    Args:
        name: such as `Q`, or `R over C`.
        kind: `true`, `empty` or `shuffled`; blank for a variant that reads none.
        outcomes: one a fold.
    """

    arm: str
    name: str
    kind: str
    outcomes: Sequence[Outcome]

    @property
    def title(self) -> str:
        return f"{self.name} ({self.arm})"


def choose_shares(arm: ArmScores) -> list[float]:
    """The share a of variant Q for every fold, chosen on the other folds' validation pools.

    The largest unseen R@10 among the shares that cost seen R@10 no more than the gate allows; 0, which is P,
    is always among them. A single fold chooses on its own validation pools.
    """
    count = len(arm.validation)
    return [_choose(arm, [i for i in range(count) if i != fold or count == 1]) for fold in range(count)]


def _choose(arm: ArmScores, folds: Sequence[int]) -> float:
    seen, unseen = ([masks[i] for i in folds] for masks in (arm.seen, arm.unseen))

    def rates(share: float) -> tuple[float, float]:
        outcomes = [Outcome.of(arm.validation[i].mixed("true", share)) for i in folds]
        return recall_tally(outcomes, seen, 10).rate, recall_tally(outcomes, unseen, 10).rate

    plain_seen, _ = rates(0.0)
    found = {share: rates(share) for share in SHARES}
    allowed = [share for share in SHARES if found[share][0] >= plain_seen - MAX_SEEN_LOSS]
    return max(allowed, key=lambda share: found[share][1])


def variant_rows(arm: ArmScores, base: ArmScores | None = None) -> Iterator[Row]:
    """Every variant of an arm.

    Args:
        base: the concatenation arm, whose first hits this arm's matching head re-ranks as well, fold by fold.
    """
    yield Row(arm.name, "P", "", [Outcome.of(one.plain) for one in arm.test])
    for kind in EXPLANATION_KINDS:
        yield Row(arm.name, "C", kind, [Outcome.of(one.concat[kind]) for one in arm.test])
    shares = choose_shares(arm) if arm.test[0].fused else []
    for kind in EXPLANATION_KINDS:
        if shares:
            mixed = [one.mixed(kind, share) for one, share in zip(arm.test, shares, strict=True)]
            yield Row(arm.name, "Q", kind, [Outcome.of(scores) for scores in mixed])
        for name, pair_scores in _pair_scores(arm, kind):
            yield from _pair_rows(arm, base, kind, name, pair_scores, shares)


def _pair_scores(arm: ArmScores, kind: str) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    if arm.test[0].matching:
        yield "X", [one.matching[kind] for one in arm.test]
    if arm.test[0].pairwise:
        yield "V", [one.pairwise[kind] for one in arm.test]


def _pair_rows(
    arm: ArmScores,
    base: ArmScores | None,
    kind: str,
    name: str,
    pair_scores: Sequence[NDArray[np.float32]],
    shares: Sequence[float],
) -> Iterator[Row]:
    """The whole pool by pair scores, and the first hits of P, Q and C re-ranked by them."""
    yield Row(arm.name, name, kind, [Outcome.of(scores) for scores in pair_scores])
    word = "R" if name == "X" else "R by V*"
    bases = {"P": [one.plain for one in arm.test]}
    if shares:
        bases["Q"] = [one.mixed(kind, share) for one, share in zip(arm.test, shares, strict=True)]
    if base is not None:
        bases[f"C ({base.name})"] = [one.concat[kind] for one in base.test]
    for over, scores in bases.items():
        outcomes = [
            Outcome.reranked(one, better, RERANK_TOP) for one, better in zip(scores, pair_scores, strict=True)
        ]
        yield Row(arm.name, f"{word} over {over}", kind, outcomes)


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and what they say.

    Args:
        table: header and rows of cells.
        data: JSON-ready.
        verdicts: the gate's three steps; empty where an arm that it needs was not run.
    """

    table: list[list[str]]
    data: dict[str, object]
    verdicts: list[Verdict]


def report(arms: Sequence[ArmScores]) -> Report:
    """Put the runs together.

    Args:
        arms: of the same folds in the same order.

    Raises:
        ValueError: arms of different folds.
    """
    if len({len(arm.test) for arm in arms}) > 1:
        raise ValueError("the arms were not run on the same folds, so they cannot be paired")
    by_name = {arm.name: arm for arm in arms}
    masks = arms[0].seen
    rows = [row for arm in arms for row in variant_rows(arm, by_name.get(_CONCAT))]
    verdicts = _gate(rows, masks) if {_PLAIN, _CONCAT, _HEADS} <= set(by_name) else []
    data = {
        "folds": len(masks),
        "rows": [_numbers(row, masks) for row in rows],
        "shares": {arm.name: choose_shares(arm) for arm in arms if arm.test[0].fused},
        "helps": _help(rows, masks),
        "gate": [
            {"step": one.step, "passed": one.passed, "winner": one.winner, "sentence": one.sentence}
            for one in verdicts
        ],
    }
    return Report(_table(rows, masks), data, verdicts)


def _evidence(rows: Sequence[Row], masks: Masks) -> dict[tuple[str, str], Evidence]:
    """By arm and variant, with true explanations."""
    unseen, everything = [~mask for mask in masks], [np.ones_like(mask) for mask in masks]
    shuffled = {
        (row.arm, row.name): recall_tally(row.outcomes, unseen, 10) for row in rows if row.kind == "shuffled"
    }
    return {
        (row.arm, row.name): Evidence(
            name=row.title,
            unseen=recall_tally(row.outcomes, unseen, 10),
            seen=recall_tally(row.outcomes, masks, 10),
            unseen_shuffled=shuffled.get((row.arm, row.name)),
            top1=recall_tally(row.outcomes, everything, 1),
            precision=precision_tally(row.outcomes, COVERAGE),
        )
        for row in rows
        if row.kind in ("", "true")
    }


def _gate(rows: Sequence[Row], masks: Masks) -> list[Verdict]:
    found = _evidence(rows, masks)
    over = {
        found[_PLAIN, "P"].name: (_HEADS, "P"),
        found[_HEADS, "Q"].name: (_HEADS, "Q"),
        found[_CONCAT, "C"].name: (_HEADS, f"C ({_CONCAT})"),
    }
    reranked = {name: found[arm, f"R over {base}"] for name, (arm, base) in over.items()}
    pairwise = {
        name: found[_PAIRWISE, f"R by V* over {base}"]
        for name, (_, base) in over.items()
        if (_PAIRWISE, f"R by V* over {base}") in found
    }
    return run_gate(found[_PLAIN, "P"], [found[_HEADS, "Q"]], found[_CONCAT, "C"], reranked, pairwise or None)


def _help(rows: Sequence[Row], masks: Masks) -> dict[str, bool]:
    """Whether each variant helps unseen looks, R@10, against the plain CLIP's P."""
    plain = next((row for row in rows if (row.arm, row.name) == (_PLAIN, "P")), None)
    if plain is None:
        return {}
    unseen = [~mask for mask in masks]
    by_key = {(row.title, row.kind): recall_tally(row.outcomes, unseen, 10) for row in rows}
    baseline = by_key[plain.title, ""]
    return {
        title: helps(tally, baseline, by_key[title, "shuffled"])
        for (title, kind), tally in by_key.items()
        if kind == "true"
    }


_GROUPS = ("unseen", "seen")
_DIRECTIONS = ("image_to_text", "text_to_image")
_KS = (1, 10)


def _intervals(row: Row, masks: Masks) -> dict[str, Interval]:
    result = {}
    for group in _GROUPS:
        kept = masks if group == "seen" else [~mask for mask in masks]
        for number, direction in enumerate(_DIRECTIONS):
            for k in _KS:
                tally: Tally = recall_tally(row.outcomes, kept, k, number)
                result[f"{group}_{direction}_R@{k}"] = bootstrap(tally)
    return result


def _numbers(row: Row, masks: Masks) -> dict[str, object]:
    intervals = {name: [one.mean, one.low, one.high] for name, one in _intervals(row, masks).items()}
    return {"arm": row.arm, "variant": row.name, "explanations": row.kind, **intervals}


def _table(rows: Sequence[Row], masks: Masks) -> list[list[str]]:
    arrows = {"image_to_text": "I→T", "text_to_image": "T→I"}
    columns = [f"{group} {arrows[d]} R@{k}" for group in _GROUPS for d in _DIRECTIONS for k in _KS]
    table = [["arm", "variant", "explanations", *columns]]
    for row in rows:
        intervals = _intervals(row, masks).values()
        cells = [f"{100 * one.mean:.1f} ± {50 * (one.high - one.low):.1f}" for one in intervals]
        table.append([row.arm, row.name, row.kind, *cells])
    return table


def yardstick_cells(name: str, recalls: dict[str, dict[str, float]]) -> list[str]:
    """A table row of a yardstick, in the columns of `Report.table`; a dash where it says nothing.

    Args:
        recalls: group → metric → recall, 0 to 1.
    """
    metrics = [(group, f"{d}_R@{k}") for group in _GROUPS for d in _DIRECTIONS for k in _KS]
    cells = [f"{100 * recalls[group][one]:.1f}" if group in recalls else "–" for group, one in metrics]
    return [name, "yardstick", "", *cells]
