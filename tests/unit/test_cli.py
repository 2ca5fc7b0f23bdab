"""The command line: help that is quick, errors of one line, documented exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from worker.cli.main import app, run_command
from worker.cli.options import parse_since
from worker.cli.progress import summary_lines
from worker.errors import ExitCode
from worker.flow.pipeline import Summary

COMMANDS = (
    *("demo", "run", "query", "stats", "why", "enrich", "explain", "prepare", "check-config"),
    *("train", "evaluate", "calibrate", "convert"),
)
LETTERS = (["dead-letters", "list"], ["dead-letters", "replay"])
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("entityclip: error: ")
    return lines[0]


@pytest.mark.parametrize("arguments", [*([name] for name in COMMANDS), *LETTERS])
def test_every_command_has_help_with_an_example(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*arguments, "--help"]) == ExitCode.DONE
    assert "Example: " in capsys.readouterr().out


def test_the_list_of_commands_here_is_complete() -> None:
    assert {each.name for each in app.registered_commands if not each.hidden} == set(COMMANDS)


def test_help_imports_neither_torch_nor_the_store_client() -> None:
    program = (
        "import sys; from worker.cli.main import run_command; code = run_command(['--help']); "
        "heavy = {'torch', 'qdrant_client', 'open_clip', 'PIL', 'numpy'} & sys.modules.keys(); "
        "print('heavy:', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == ExitCode.DONE
    assert "Commands:" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out.startswith("entityclip ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["run", "--bogus"],
        ["demo", "--seed", "x"],
        ["dead-letters"],
        ["query"],
        ["query", "   "],
        ["query", "a text", "--image", "and-a-picture.jpg"],
        ["query", "a text", "--since", "yesterday"],
        ["query", "a text", "--top", "0"],
        ["query", "a text", "--format", "xml"],
        ["dead-letters", "list", __file__, "--offsets", "9-1"],
    ],
)
def test_a_usage_error_is_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == ExitCode.USAGE
    assert one_error_line(capsys).endswith("see --help")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run"], "--source"),
        (["run", "--source", "file:posts.jsonl"], "--sink"),
        (["run", "--source", "file:a", "--sink", "file:b", "--from", "2d"], "a file is read to its end"),
        (["check-config", "--config", "missing.toml"], "missing.toml"),
        (["dead-letters", "list", "missing.jsonl"], "missing.jsonl"),
        (["demo", "--output", "missing/page.html"], "missing/page.html"),
        (["query", "x", "--store", "missing"], "no store"),
        (["convert", "missing.pt", "--output", "out"], "missing.pt"),
        (["train", "--recipe", "missing", "--output", "out"], "missing"),
    ],
)
def test_what_cannot_work_is_one_line_and_code_78(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(arguments) == ExitCode.CONFIG
    assert part in one_error_line(capsys)


def test_an_unknown_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENTITYCLIP_BOGUS", "1")
    assert run_command(["check-config"]) == ExitCode.CONFIG
    assert "bogus" in one_error_line(capsys)


def test_check_config_prints_json_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENTITYCLIP_STORE_API_KEY", "swordfish")
    assert run_command(["check-config"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert json.loads(printed)["store_api_key"] == "***"
    assert "swordfish" not in printed


def test_a_bug_is_one_line_and_code_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("worker.config.load_config", broken)
    assert run_command(["check-config"]) == ExitCode.INTERNAL
    assert "RuntimeError: first second" in one_error_line(capsys)


@pytest.mark.parametrize(("written", "end"), [(True, "2 matches"), (False, "matches not written")])
def test_the_summary_says_whether_the_matches_were_written(written: bool, end: str) -> None:
    summary = Summary(3, 2, 1, {}, matches=2, seconds=1.5, busy_s={}, stopped=False)
    assert summary_lines(summary, written=written) == [
        f"3 posts in 1.5 s (2.0 posts/s): 2 matched, 1 unmatched, 0 dead letters; {end}"
    ]


def test_an_interruption_is_code_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.config.load_config", interrupted)
    assert run_command(["check-config"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == ""


def test_dead_letters_are_counted_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dead.jsonl"
    common = {"detail": "d", "stage": "s", "attempts": 1, "topic": "t", "partition": 0, "worker_version": "1"}
    reasons = ["empty_post", "invalid_json", "empty_post"]
    path.write_text(
        "".join(
            json.dumps(
                {**common, "key": f"t-0-{place}", "offset": place, "reason": reason, "value": "\x1b[31mred"}
            )
            + "\n"
            for place, reason in enumerate(reasons)
        )
    )
    assert run_command(["dead-letters", "list", str(path)]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert ["empty_post", "2"] in [line.split() for line in printed.splitlines()]
    assert "\x1b" not in printed
    assert run_command(["dead-letters", "list", str(path), "--reason", "invalid_json"]) == ExitCode.DONE
    assert "empty_post" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        (" 2w ", NOW - timedelta(days=14)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_since_takes_spans_and_dates(value: str, expected: datetime) -> None:
    assert parse_since(value, NOW) == expected


@pytest.mark.parametrize(
    "value", ["", "7", "7y", "-7d", "9999999w", "0001-01-01T00:00:00+14:00", "31.1.2026"]
)
def test_since_refuses_anything_else(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither a span"):
        parse_since(value, NOW)
