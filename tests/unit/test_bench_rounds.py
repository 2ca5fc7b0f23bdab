"""What all benchmarks share: turns, ratios, and the report."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from worker.bench.machine import this_machine
from worker.bench.report import Ratio, Report, Row, Section, print_report, write_json
from worker.bench.rounds import PartClock, Run, Spread, Turns, run_in_turns


def _turns() -> Turns[str]:
    """Two ways over three rounds, in the second of which the machine was half as fast."""
    return Turns(
        {
            "slow": (Run(4.0, 8.0, "a"), Run(9.0, 8.0, "b"), Run(4.0, 8.0, "c")),
            "fast": (Run(1.0, 2.0, "d"), Run(2.0, 2.0, "e"), Run(2.0, 2.0, "f")),
        }
    )


def test_ways_take_turns_and_the_first_changes_each_round() -> None:
    called: list[str] = []
    run_in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=3)
    assert called == ["a", "b", "b", "a", "a", "b"]


def test_results_are_kept_by_way_and_round() -> None:
    numbers = iter(range(4))
    turns = run_in_turns({"a": lambda: next(numbers), "b": lambda: next(numbers)}, rounds=2)
    assert turns.results("a") == [0, 3]
    assert turns.results("b") == [1, 2]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert _turns().ratio("slow", "fast") == Spread(4.0, 2.0, 4.5)


def test_a_ratio_of_cpu_time_is_apart_from_that_of_wall_time() -> None:
    assert _turns().ratio("slow", "fast", "cpu") == Spread(4.0, 4.0, 4.0)


def test_a_rate_is_by_wall_time() -> None:
    assert _turns().rate("fast", 10) == Spread(5.0, 5.0, 10.0)


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused(rounds: int) -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        run_in_turns({"a": int}, rounds)


def test_the_time_of_a_part_adds_up_over_its_blocks() -> None:
    clock = PartClock()
    for _ in range(2):
        with clock.part("sum"):
            sum(range(200_000))
    once = clock.seconds["sum"]
    with clock.part("sum"):
        sum(range(200_000))
    assert clock.seconds["sum"] > once > 0


def _report() -> Report:
    return Report(
        bench="encode",
        command="entityclip bench encode --posts 3",
        machine=this_machine(),
        settings={"posts": 3, "precision": "bf16"},
        ratios=(Ratio("posts/s, ours over the reference", Spread(2.5, 2.25, 3.0)),),
        sections=(
            Section("Rates", "posts/s", (Row("ours", {"median": 1234.0}), Row("all", {"cosine": 0.99996}))),
        ),
        notes=("precision bf16",),
    )


def test_a_report_is_read_back_from_its_json(tmp_path: Path) -> None:
    write_json(_report(), tmp_path / "report.json")
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report) == _report()


def test_a_report_prints_machine_settings_tables_ratios_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(_report())
    printed = capsys.readouterr().out
    for expected in (
        *_report().machine.lines(),
        "posts 3, precision bf16",
        "Rates (posts/s)",
        "1,234",
        "0.99996",  # what tells a cosine from 1 is not rounded away
        "posts/s, ours over the reference: 2.50 × (2.25 to 3.00)",
        "precision bf16",
    ):
        assert expected in printed


def test_the_machine_names_its_processor_and_torch() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.torch.startswith("2.")
