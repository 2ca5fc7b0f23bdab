"""What `entityclip bench encode` found, as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.bench.encode_recall import RecallPair
from worker.bench.encode_ways import OURS, REFERENCE
from worker.bench.machine import Machine
from worker.bench.naive import PARTS, PlainVectors
from worker.bench.report import Ratio, Report, Row, Section, spread_row
from worker.bench.rounds import Turns

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured.

    Args:
        posts: of a turn.
        part_posts: of a turn of `parts`, which holds CPU seconds by part.
        alike: [posts] bool, whose texts both ways read alike.
    """

    posts: int
    turns: Turns[PlainVectors]
    part_posts: int
    parts: Turns[dict[str, float]]
    alike: NDArray[np.bool_]
    recall: Sequence[RecallPair]


def encode_report(
    found: Findings,
    command: str,
    machine: Machine,
    settings: Mapping[str, str | int | float | bool],
    precision_line: str,
) -> Report:
    """Rates, where the time goes, cosines to the reference, recall."""
    parts = _parts(found)
    ours = found.turns.rate(OURS, found.posts)
    return Report(
        bench="encode",
        command=command,
        machine=machine,
        settings=dict(settings),
        sections=(
            Section(
                "Rates",
                "posts/s",
                (spread_row(OURS, ours), spread_row(REFERENCE, found.turns.rate(REFERENCE, found.posts))),
            ),
            Section("Where the time goes", "CPU ms a post", parts),
            Section("Cosine of our vectors to the reference's", "cosine", _cosines(found)),
            *(
                [Section("Recall on FlagNews", "part of the queries", _recall(found.recall))]
                if found.recall
                else []
            ),
        ),
        ratios=(
            Ratio("posts/s, ours over the reference", found.turns.ratio(REFERENCE, OURS)),
            Ratio("CPU time a post, the reference over ours", found.turns.ratio(REFERENCE, OURS, "cpu")),
        ),
        notes=(precision_line, *_advice(parts, machine, ours.median)),
    )


def _parts(found: Findings) -> tuple[Row, ...]:
    """Medians over the rounds, of both ways, and their sum."""
    means = {
        way: {
            part: float(np.median([run[part] for run in found.parts.results(way)])) * _MS / found.part_posts
            for part in PARTS
        }
        for way in (OURS, REFERENCE)
    }
    for values in means.values():
        values["all"] = sum(values.values())
    return tuple(Row(part, {way: means[way][part] for way in means}) for part in (*PARTS, "all"))


def _cosines(found: Findings) -> tuple[Row, ...]:
    """Mean and worst; texts that the two ways cut differently are left out."""
    ours, reference = found.turns.results(OURS)[-1], found.turns.results(REFERENCE)[-1]
    pairs = {
        "images": (ours.images, reference.images),
        "texts": (ours.texts[found.alike], reference.texts[found.alike]),
    }
    if ours.explanations is not None and reference.explanations is not None:
        pairs["explanations"] = (ours.explanations, reference.explanations)
    rows = {name: (one * other).sum(axis=1) for name, (one, other) in pairs.items() if len(one)}
    return tuple(
        Row(name, {"mean": float(cosine.mean()), "worst": float(cosine.min()), "vectors": len(cosine)})
        for name, cosine in rows.items()
    )


def _recall(pairs: Sequence[RecallPair]) -> tuple[Row, ...]:
    return tuple(
        Row(
            pair.name,
            {
                OURS: pair.ours,
                REFERENCE: pair.reference,
                "difference": pair.ours - pair.reference,
                "queries that changed": pair.changed,
            },
        )
        for pair in pairs
    )


def _advice(parts: Sequence[Row], machine: Machine, posts_per_s: float) -> list[str]:
    """What the CPU's parts would allow if every core worked on them all the time, and the largest of them."""
    if machine.device != "cpu":
        return []
    *each, total = parts
    bound = machine.cores * _MS / total.values[OURS]
    largest = max(each, key=lambda row: row.values[OURS])
    return [
        f"{machine.cores} cores that did nothing else would give {bound:.1f} posts/s; "
        f"ours reached {posts_per_s / bound:.0%} of that",
        f"most of ours is the {largest.name}: {largest.values[OURS] / total.values[OURS]:.0%}",
    ]
