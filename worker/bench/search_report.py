"""What `entityclip bench search` measured, as a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.bench.machine import Machine
from worker.bench.report import Ratio, Report, Row, Section, spread_row
from worker.bench.search_store import DAYS, Loaded
from worker.bench.search_ways import BATCHED, SCAN, SINGLE, Answers


def search_report(
    loaded: Sequence[Loaded],
    answers: Sequence[Answers],
    command: str,
    machine: Machine,
    settings: dict[str, str | int | float | bool],
) -> Report:
    """Ratios of the largest store, and tables of all."""
    largest = max(row.points for row in loaded)
    return Report(
        bench="search",
        command=command,
        machine=machine,
        settings=settings,
        ratios=tuple(ratio for row in answers if row.points == largest for ratio in _ratios(row)),
        sections=(
            Section("Loading", "points/s, points, s", tuple(map(_loading, loaded))),
            Section("Recall@10, by the exact scan", "0 to 1", tuple(map(_recall, answers))),
            Section("One search at a time", "ms", tuple(map(_latency, answers))),
            *_waits(loaded),
            Section("All queries", "searches/s", tuple(row for one in answers for row in _rates(one))),
        ),
    )


def _name(answers: Answers) -> str:
    which = f", one point in {DAYS} by time" if answers.filtered else ""
    return f"{answers.points:,} points, {answers.direction}{which}"


def _ratios(answers: Answers) -> list[Ratio]:
    pairs = ((SINGLE, BATCHED), (SCAN, BATCHED))
    return [
        Ratio(f"searches/s, {two} over {one}: {_name(answers)}", answers.times.ratio(one, two))
        for one, two in pairs
    ]


def _loading(loaded: Loaded) -> Row:
    values = {
        "points/s": loaded.points / loaded.load_s,
        "in a graph": loaded.indexed,
        "graphs built in s": loaded.build_s,
    }
    return Row(f"{loaded.points:,} points", values)


def _recall(answers: Answers) -> Row:
    return Row(_name(answers), {"mean": answers.recall, "worst query": answers.worst})


def _latency(answers: Answers) -> Row:
    return _milliseconds(
        _name(answers), [seconds for found in answers.times.results(SINGLE) for seconds in found.seconds]
    )


def _waits(loaded: Sequence[Loaded]) -> list[Section]:
    """Nothing where no store was large enough to build search graphs."""
    rows = tuple(_milliseconds(f"{row.points:,} points", row.waits_s) for row in loaded if row.waits_s)
    return [Section("One search at a time, while search graphs are built", "ms", rows)] if rows else []


def _milliseconds(name: str, seconds: Sequence[float]) -> Row:
    p50, p95 = np.percentile(seconds, (50, 95))
    return Row(
        name,
        {
            "p50": 1000 * float(p50),
            "p95": 1000 * float(p95),
            "longest": 1000 * max(seconds),
            "searches": len(seconds),
        },
    )


def _rates(answers: Answers) -> list[Row]:
    return [
        spread_row(f"{_name(answers)}, {way}", answers.times.rate(way, answers.queries))
        for way in answers.times.runs
    ]
