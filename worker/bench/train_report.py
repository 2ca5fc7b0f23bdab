"""What `entityclip bench train` measured, as a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from worker.bench.machine import Machine
from worker.bench.report import Ratio, Report, Row, Section, spread_row
from worker.bench.rounds import Spread, Turns

OURS, PUBLISHED, BACKBONE = "ours", "published way", "backbone alone"
DEFAULT, KEPT = "default", "keep"  # of the allocator


class Precision(StrEnum):
    """Of the towers; master weights, norms and losses stay in float32."""

    FP32 = "fp32"
    BF16 = "bf16"


@dataclass(frozen=True, slots=True)
class Step:
    """One step without the optimiser.

    Args:
        forward_s, backward_s: wall time.
        peak_bytes: most memory above what lay on the GPU before the step; 0 on the CPU.
    """

    forward_s: float
    backward_s: float
    peak_bytes: int


class StepCost(msgspec.Struct, frozen=True):
    """Of one step of ours with its optimiser, mean of a process's steps.

    Args:
        user_s, system_s: processor time of all threads.
        page_faults: pages that the kernel had to clear or map.
    """

    wall_s: float
    user_s: float
    system_s: float
    page_faults: float

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was measured.

    Args:
        losses: of the batch, by way; the two must agree.
        flops: of a forward pass and loss, by way.
        steps: by `step_name`.
        optimisers: by name.
        memory: with both settings of the allocator; None if it was left out.
    """

    precisions: tuple[Precision, ...]
    losses: Mapping[str, float]
    flops: Mapping[str, int]
    steps: Turns[Step]
    optimisers: Turns[None]
    memory: Turns[StepCost] | None


def step_name(way: str, precision: Precision) -> str:
    """A way in a precision, as its rows are called."""
    return f"{way}, {precision}"


def train_report(
    found: Findings, command: str, machine: Machine, settings: dict[str, str | int | float | bool]
) -> Report:
    """Ratios, tables, and the losses that show that the same is computed."""
    return Report(
        bench="train",
        command=command,
        machine=machine,
        settings=settings,
        ratios=(
            *_ratios(found.steps, found.precisions),
            *_memory_ratios(found.memory),
        ),
        sections=(
            _flop_section(found.flops),
            _step_section(found.steps),
            *_peak_section(found.steps),
            _optimiser_section(found.optimisers),
            *_memory_section(found.memory),
        ),
        notes=(
            "loss of the batch: " + ", ".join(f"{way} {value:.6f}" for way, value in found.losses.items()),
        ),
    )


def _ratios(turns: Turns[Step], precisions: tuple[Precision, ...]) -> list[Ratio]:
    found = []
    for precision in precisions:
        for one, other in ((PUBLISHED, OURS), (OURS, BACKBONE)):
            names = step_name(one, precision), step_name(other, precision)
            what = f"{one} over {other}, {precision}"
            found += [
                Ratio(f"time of a step, {what}", turns.ratio(*names)),
                Ratio(f"processor time of a step, {what}", turns.ratio(*names, clock="cpu")),
            ]
    if len(precisions) > 1:
        names = step_name(OURS, Precision.FP32), step_name(OURS, Precision.BF16)
        found.append(Ratio("time of a step of ours, fp32 over bf16", turns.ratio(*names)))
    return found


def _flop_section(flops: Mapping[str, int]) -> Section:
    rows = tuple(
        Row(way, {"GFLOPs": count / 1e9, "× backbone alone": count / flops[BACKBONE]})
        for way, count in flops.items()
    )
    return Section("Forward pass and loss", "as torch's FlopCounterMode counts", rows)


def _step_section(turns: Turns[Step]) -> Section:
    def row(name: str) -> Row:
        steps, wall = turns.results(name), turns.seconds(name)
        return Row(
            name,
            {
                "forward": Spread.of([step.forward_s for step in steps]).median,
                "backward": Spread.of([step.backward_s for step in steps]).median,
                "together": wall.median,
                "least": wall.low,
                "most": wall.high,
                "processor": turns.seconds(name, "cpu").median,
            },
        )

    return Section("A step", "s, medians", tuple(row(name) for name in turns.runs))


def _peak_section(turns: Turns[Step]) -> list[Section]:
    """On a GPU alone."""
    peaks = {name: max(step.peak_bytes for step in turns.results(name)) for name in turns.runs}
    rows = tuple(Row(name, {"peak": peak / 2**30}) for name, peak in peaks.items() if peak)
    return [Section("Memory of a step on the GPU", "GiB above what lay there", rows)] if rows else []


def _optimiser_section(turns: Turns[None]) -> Section:
    rows = tuple(spread_row(name, turns.seconds(name)) for name in turns.runs)
    return Section("Optimiser apart: AdamW over all parameters of ours", "s", rows)


def _memory_section(turns: Turns[StepCost] | None) -> list[Section]:
    if turns is None:
        return []

    def row(name: str) -> Row:
        costs = turns.results(name)
        fields = {
            "wall s": [cost.wall_s for cost in costs],
            "user s": [cost.user_s for cost in costs],
            "system s": [cost.system_s for cost in costs],
            "page faults": [cost.page_faults for cost in costs],
        }
        return Row(name, {field: Spread.of(values).median for field, values in fields.items()})

    return [Section("Freed memory: the allocator's default, and kept", "a step", tuple(map(row, turns.runs)))]


def _memory_ratios(turns: Turns[StepCost] | None) -> list[Ratio]:
    if turns is None:
        return []
    pairs = list(zip(turns.results(DEFAULT), turns.results(KEPT), strict=True))
    return [
        Ratio(
            "time of a step, default over kept", Spread.of([one.wall_s / two.wall_s for one, two in pairs])
        ),
        Ratio("processor time, default over kept", Spread.of([one.cpu_s / two.cpu_s for one, two in pairs])),
    ]
