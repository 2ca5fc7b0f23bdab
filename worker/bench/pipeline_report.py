"""What `bench pipeline` says of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from worker.bench.machine import Machine
from worker.bench.pipeline_advice import Load, advice
from worker.bench.pipeline_stages import Alone
from worker.bench.report import Ratio, Report, Row, Section, spread_row
from worker.bench.rounds import Spread
from worker.flow.figures import Summary


@dataclass(frozen=True, slots=True)
class Whole:
    """One run of the worker.

    Args:
        cpu_s: that all threads of this process computed.
    """

    summary: Summary
    cpu_s: float

    @property
    def rate(self) -> float:
        """Posts a second."""
        return self.summary.posts / self.summary.seconds

    @property
    def busy(self) -> dict[str, float]:
        """By stage, the share of the run in which its threads worked."""
        return {name: seconds / self.summary.seconds for name, seconds in self.summary.busy_s.items()}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured.

    Args:
        alone, whole: by round: each stage alone, then the whole worker.
        lone: seconds of each post of the loop without overlap; may be empty.
        latencies: seconds from delivery to acknowledgement, sorted, at `paced_rate` posts a second.
    """

    alone: Sequence[Sequence[Alone]]
    whole: Sequence[Whole]
    lone: Sequence[float]
    latencies: Sequence[float]
    paced_rate: float

    @property
    def stages(self) -> list[str]:
        """Those that posts reached, in order."""
        return [one.name for one in self.alone[0] if one.posts]

    def rates(self, stage: str) -> list[float]:
        """Posts a second of a stage alone, by round."""
        return [one.rate for alone in self.alone for one in alone if one.name == stage]

    def cpu_ms(self, stage: str) -> list[float]:
        """Computed for a post by a stage alone, by round."""
        return [one.cpu_s / one.posts * 1000 for alone in self.alone for one in alone if one.name == stage]

    @property
    def slowest(self) -> str:
        """The stage that does the fewest posts a second by itself."""
        return min(self.stages, key=lambda stage: statistics.median(self.rates(stage)))

    def allowed_by(self, cores: int) -> list[float]:
        """Posts a second if the cores did only what the stages compute when they are alone, by round."""
        return [1000 * cores / sum(times) for times in zip(*map(self.cpu_ms, self.stages), strict=True)]


def pipeline_report(
    found: Findings, command: str, machine: Machine, settings: dict[str, str | int | float | bool]
) -> Report:
    """Put the findings into the form of every benchmark."""
    rates = [run.rate for run in found.whole]
    allowed = found.allowed_by(machine.cores)
    ratios = [
        Ratio(
            f"posts/s, whole over the slowest stage alone ({found.slowest})",
            _over(rates, found.rates(found.slowest)),
        ),
        Ratio("posts/s, whole over what the stages' CPU time leaves of these cores", _over(rates, allowed)),
    ]
    rows = [spread_row("the whole worker", Spread.of(rates))]
    if found.lone:
        naive = 1 / statistics.median(found.lone)
        ratios.append(
            Ratio("posts/s, whole over one post after the other", _over(rates, [naive] * len(rates)))
        )
        rows.append(Row("one post after the other", {"median": naive}))
    rows += [spread_row(f"{stage} alone", Spread.of(found.rates(stage))) for stage in found.stages]
    rows.append(spread_row(f"all stages' CPU time on {machine.cores} cores", Spread.of(allowed)))
    return Report(
        bench="pipeline",
        command=command,
        settings=settings,
        machine=machine,
        ratios=tuple(ratios),
        sections=(
            Section("Rates", "posts/s", tuple(rows)),
            Section("CPU time", "ms a post, all threads of the worker", tuple(_cpu_rows(found))),
            Section("Busy", "share of the run", tuple(_busy_rows(found))),
            Section(
                f"From post to acknowledged outcome, at {found.paced_rate:.1f} posts/s",
                "ms",
                _latency_rows(found),
            ),
        ),
        notes=(_advice(found, machine.cores),),
    )


def _over(rates: Sequence[float], others: Sequence[float]) -> Spread:
    return Spread.of([rate / other for rate, other in zip(rates, others, strict=True)])


def _cpu_rows(found: Findings) -> list[Row]:
    whole = [run.cpu_s / run.summary.posts * 1000 for run in found.whole]
    alone = [spread_row(f"{stage} alone", Spread.of(found.cpu_ms(stage))) for stage in found.stages]
    return [spread_row("the whole worker", Spread.of(whole)), *alone]


def _busy_rows(found: Findings) -> list[Row]:
    return [
        spread_row(name, Spread.of([run.busy[name] for run in found.whole])) for name in found.whole[0].busy
    ]


def _latency_rows(found: Findings) -> tuple[Row, ...]:
    last = len(found.latencies) - 1
    return tuple(
        Row(f"p{percent}", {"": found.latencies[round(last * percent / 100)] * 1000})
        for percent in (50, 90, 99)
    )


def _advice(found: Findings, cores: int) -> str:
    stages = {name: statistics.median(run.busy[name] for run in found.whole) for name in found.whole[0].busy}
    taken = statistics.median(run.cpu_s / run.summary.seconds / cores for run in found.whole)
    rates = {stage: statistics.median(found.rates(stage)) for stage in found.stages}
    return advice(Load(stages, rates, taken))
