"""Timed steps of `training_step`, and what they come to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

OURS, PUBLISHED, BACKBONE = "ours", "published", "backbone"


@dataclass(frozen=True, slots=True)
class Step:
    """One timed step.

    Args:
        forward_s, backward_s: wall time.
        cpu_s: processor time of both on all threads, which other work hardly touches; None on a GPU.
        peak_bytes: most memory above what lay on the GPU before the step; None on the CPU.
    """

    way: str
    precision: str
    forward_s: float
    backward_s: float
    cpu_s: float | None
    peak_bytes: int | None

    @property
    def seconds(self) -> float:
        """Wall time, forward and backward together."""
        return self.forward_s + self.backward_s


def _of(steps: list[Step], way: str, precision: str) -> list[Step]:
    return [step for step in steps if (step.way, step.precision) == (way, precision)]


def ratios(above: list[Step], below: list[Step]) -> list[float]:
    """By round, how many times as long one way takes as another."""
    return [a.seconds / b.seconds for a, b in zip(above, below, strict=True)]


def cpu_ratios(above: list[Step], below: list[Step]) -> list[float]:
    """By round, the same in processor time; empty on a GPU."""
    return [a.cpu_s / b.cpu_s for a, b in zip(above, below, strict=True) if a.cpu_s and b.cpu_s]


def table(flops: dict[str, int], steps: list[Step]) -> str:
    """Write the results as a Markdown table: medians, and the range where it matters."""
    lines = [
        "| way | precision | forward GFLOPs | × backbone | forward s | backward s | together s "
        "| × backbone | × backbone, processor time | peak GiB |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for way, precision in dict.fromkeys((step.way, step.precision) for step in steps):
        own = _of(steps, way, precision)
        peak = max(step.peak_bytes or 0 for step in own)
        lines.append(
            f"| {way} | {precision} | {flops[way] / 1e9:.1f} | {flops[way] / flops[BACKBONE]:.3f} "
            f"| {statistics.median(step.forward_s for step in own):.3f} "
            f"| {statistics.median(step.backward_s for step in own):.3f} "
            f"| {_with_range([step.seconds for step in own], 3)} "
            f"| {_with_range(ratios(own, _of(steps, BACKBONE, precision)), 2)} "
            f"| {_with_range(cpu_ratios(own, _of(steps, BACKBONE, precision)), 2)} "
            f"| {f'{peak / 2**30:.2f}' if peak else '–'} |"
        )
    return "\n".join(lines)


def _with_range(values: list[float], digits: int) -> str:
    """Median (least–most)."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def verdicts(flops: dict[str, int], steps: list[Step]) -> list[str]:
    """Say what the numbers come to, a line each."""
    precisions = list(dict.fromkeys(step.precision for step in steps))
    found = [
        f"forward FLOPs of ours: {flops[OURS] / flops[BACKBONE]:.4f} × backbone alone (bound: 1.03)",
        f"forward FLOPs of the published way: {flops[PUBLISHED] / flops[OURS]:.3f} × ours",
    ]
    for precision in precisions:
        published, ours = _of(steps, PUBLISHED, precision), _of(steps, OURS, precision)
        wall, cpu = (_with_range(ratio(published, ours), 2) for ratio in (ratios, cpu_ratios))
        found.append(f"the published way, {precision}: wall time {wall} × ours, processor time {cpu} ×")
    if len(precisions) > 1:
        ratio = ratios(_of(steps, OURS, "fp32"), _of(steps, OURS, "bf16"))
        found.append(f"wall time of ours, fp32: {_with_range(ratio, 2)} × bf16")
    return found
