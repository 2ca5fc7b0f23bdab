"""What every `entityclip bench` prints and writes: one form for all of them.

report = Report(
    bench="search",
    command="entityclip bench search --points 10000",
    settings={"points": 10_000, "dim": 128},
    machine=this_machine(),
    ratios=(Ratio("searches/s, ours over naive", turns.ratio("naive", "ours")),),
    sections=(Section("Rates", "searches/s", rates("ours", turns.rate("ours", 100)),),),
    notes=("recall@10 1.0 against the exact scan",),
)
print_report(report)
write_json(report, path)
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from worker.bench.machine import Machine
from worker.bench.rounds import Spread


class Ratio(msgspec.Struct, frozen=True):
    """How many times one way is as fast as another.

    Args:
        what: e.g. `posts/s, ours over naive`.
        value: the rounds' ratios: median, least and greatest.
    """

    what: str
    value: Spread


class Row(msgspec.Struct, frozen=True):
    """A line of a section: its name, and a number a column; a column without one is empty."""

    name: str
    values: dict[str, float]


class Section(msgspec.Struct, frozen=True):
    """A table.

    Args:
        unit: of all its numbers, e.g. `ms a post`.
    """

    title: str
    unit: str
    rows: tuple[Row, ...]


class Report(msgspec.Struct, frozen=True):
    """One run of a benchmark.

    Args:
        bench: `encode`, `pipeline`, `train`, `search` or `tokenise`.
        command: that prints these numbers.
        settings: what was chosen, by the options or by measurement (precision).
        notes: lines for a person that no number says.
    """

    bench: str
    command: str
    machine: Machine
    settings: dict[str, str | int | float | bool]
    ratios: tuple[Ratio, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()


def spread_row(name: str, spread: Spread) -> Row:
    """A row with median, least and greatest."""
    return Row(name, {"median": spread.median, "least": spread.low, "most": spread.high})


def print_report(report: Report) -> None:
    """Print to stdout: machine, settings, ratios, then the tables."""
    import typer

    from worker.tables import Column, print_heading, print_table

    typer.echo("\n".join(report.machine.lines()))
    typer.echo(", ".join(f"{name} {value}" for name, value in report.settings.items()))
    for section in report.sections:
        print_heading(f"{section.title} ({section.unit})")
        columns = list(dict.fromkeys(name for row in section.rows for name in row.values))
        print_table(
            [Column(""), *(Column(name, align="right") for name in columns)],
            [[row.name, *(_cell(row.values.get(name)) for name in columns)] for row in section.rows],
        )
    if report.ratios:
        typer.echo()
    for ratio in report.ratios:
        value = ratio.value
        typer.echo(f"{ratio.what}: {value.median:.2f} × ({value.low:.2f} to {value.high:.2f})")
    for note in report.notes:
        typer.echo(note)


def write_json(report: Report, path: Path) -> None:
    """Write the report as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def _cell(value: float | None) -> str:
    """At least four significant digits, thousands set apart; cosines near 1 keep what tells them from it."""
    if value is None:
        return ""
    if value == int(value):
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:,.1f}"
    return f"{value:.5f}" if 0.9 < abs(value) < 1 else f"{value:.3f}"
