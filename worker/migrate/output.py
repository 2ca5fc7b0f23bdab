"""What `entityclip migrate` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from worker.migrate.compare import Comparison
from worker.migrate.plan import Plan, Sample
from worker.tables import Column, print_heading, print_table


def plan_json(plan: Plan) -> str:
    """A plan as JSON."""
    estimates = {"seconds": plan.seconds, "bytes": plan.bytes}
    return json.dumps(asdict(plan) | {"estimate": estimates}, indent=2)


def print_plan(plan: Plan) -> None:
    """A plan for a person."""
    columns = [
        Column("collection"),
        Column("model"),
        Column("D", "right"),
        Column("images", "right"),
        Column("texts", "right"),
    ]
    rows = [
        ("served", plan.source_model, str(plan.source_dim), *_counts(plan.source)),
        ("next", plan.target_model, str(plan.target_dim), *_counts(plan.target)),
    ]
    print_table(columns, rows)
    print_heading("to do")
    for line in _estimate_lines(plan):
        print(line)
    print_heading("workers heard of within a minute")
    if not plan.workers:
        print("none")
        return
    both = {plan.source_model, plan.target_model}
    print_table(
        [Column("worker"), Column("writes"), Column("both", "right")],
        [
            (worker.name, ", ".join(worker.models), "yes" if both <= set(worker.models) else "no")
            for worker in plan.workers
        ],
    )


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """The comparison of old and new answers for a person."""
    if not comparisons:
        print("no stored point is in both collections: nothing to compare")
        return
    columns = [Column("asked with")] + [
        Column(title, "right")
        for title in ("questions", "overlap@10", "rank shift", "same first", "matches old", "matches new")
    ]
    print_table(
        columns,
        [
            (
                item.kind,
                str(item.questions),
                f"{item.overlap:.3f}",
                "-" if item.rank_shift is None else f"{item.rank_shift:.2f}",
                f"{item.same_first:.3f}",
                str(item.old_matches),
                str(item.new_matches),
            )
            for item in comparisons
        ],
    )


def _counts(counts: dict[str, int]) -> tuple[str, str]:
    return str(counts.get("image", 0)), str(counts.get("text", 0))


def _estimate_lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.missing} points to encode"
    yield f"about {plan.bytes / (1 << 20):.1f} MiB for the new collection, without search graphs"
    if plan.seconds is not None and plan.sample is not None:
        rate = plan.sample.points / max(plan.sample.seconds, 1e-9)
        yield f"about {plan.seconds:.0f} s at {rate:.1f} points/s, measured on {plan.sample.points} points"
        yield from _sample_lines(plan.sample)


def _sample_lines(sample: Sample) -> Iterator[str]:
    for reason, number in sorted(sample.failed.items()):
        yield f"of the sample, {number} points get no vector: {reason}"
    if sample.cut:
        yield f"of the sample, {sample.cut} texts are longer than the new model reads, and are cut"
    if sample.small:
        yield (
            f"warning: {sample.small} of {sample.pictures} kept pictures of the sample are smaller than the "
            "new model's input and are blown up; raise media_side before posts come in"
        )
