"""`entityclip prepare` as a command: its report, its errors, and being interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.prepared import open_prepared
from tests.datasets import write_goodnews_derived, write_mbeir, write_n24news, write_visualnews_official
from tests.datasets.rows import write_lines
from worker.cli.main import run_command
from worker.errors import ExitCode

_LIMIT_S = 60.0


@pytest.mark.parametrize(
    "writer", [write_goodnews_derived, write_mbeir, write_n24news, write_visualnews_official]
)
def test_a_benchmark_is_prepared_by_one_command(
    writer: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = writer(tmp_path / "data")
    assert run_command(["prepare", fixture.spec, "--output", str(tmp_path / "out")]) == ExitCode.DONE
    printed = capsys.readouterr()
    rows = next(line for line in printed.out.splitlines() if line.startswith("rows used")).split()[2:]
    assert [int(count) for count in rows] == [fixture.usable(split) for split in ("train", "val", "test")]
    assert printed.err == ""
    assert open_prepared(tmp_path / "out", "train").count == fixture.usable("train")


def test_the_report_says_what_was_left_out_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = write_n24news(tmp_path / "data")
    run_command(["prepare", fixture.spec, "--output", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    counts = {line[:25].strip(): line[25:].split() for line in lines if line.startswith("- ")}
    assert counts["- missing image"] == ["1", "1", "1"]
    assert counts["- broken image"] == ["1", "1", "1"]
    assert counts["- empty caption"] == ["2", "2", "2"]
    assert any(line.startswith("val: broken_image: ") and "truncated" in line for line in lines)


def test_options_reach_the_result(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path / "data")
    options = ["--split", "val", "--max-side", "32", "--quality", "50", "--near-duplicates", "keep"]
    assert run_command(["prepare", fixture.spec, "--output", str(tmp_path / "out"), *options]) == 0
    assert open_prepared(tmp_path / "out", "val").pictures.open(0).size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["n24news:/nowhere"], "there is no /nowhere"),
        (["nonsense"], "a data set is given as KIND:PATH"),
        (["{spec}", "--split", "dev"], "splits are train, val, test, not dev"),
        (["{spec}", "--near-duplicates", "maybe"], "is drop or keep"),
        (["{spec}", "--explanations", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    spec = write_n24news(tmp_path / "data", 3).spec
    given = [argument.replace("{spec}", spec) for argument in arguments]
    assert run_command(["prepare", *given, "--output", str(tmp_path / "out")]) == ExitCode.CONFIG
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 pictures that take long enough to be interrupted."""
    folder: Path = tmp_path_factory.mktemp("many-pictures")
    rng = np.random.default_rng(0)
    for number in range(120):
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(small).resize((1000, 750), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    write_lines(
        folder / "pairs.jsonl",
        ({"id": n, "image": f"{n}.jpg", "caption": f"Picture {n}", "split": "train"} for n in range(120)),
    )
    return f"jsonl:{folder / 'pairs.jsonl'}"


def arguments(spec: str, output: Path) -> list[str]:
    return ["prepare", spec, "--output", str(output), "--split", "train"]


@contextmanager
def interrupted(spec: str, output: Path, how: signal.Signals) -> Iterator[subprocess.Popen[str]]:
    """A run that gets a signal once the first pictures are stored."""
    shard = output.with_name(f"{output.name}.part") / "pictures-00000.bin"
    command = [sys.executable, "-m", "worker.cli.main", *arguments(spec, output)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + _LIMIT_S
    while not (shard.exists() and shard.stat().st_size > 100_000):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, "no picture was stored"
        time.sleep(0.005)
    run.send_signal(how)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ctrl_c_is_one_line_and_the_run_goes_on_from_there(many_pictures: str, tmp_path: Path) -> None:
    with interrupted(many_pictures, tmp_path / "out", signal.SIGINT) as run:
        out, err = run.communicate(timeout=_LIMIT_S)
    assert run.returncode == ExitCode.INTERRUPTED
    assert out == ""
    assert err == f"interrupted; what is done is kept in {tmp_path / 'out.part'}, run it again to go on\n"
    assert (tmp_path / "out.part" / "journal.jsonl").read_bytes().count(b"\n") > 1
    assert not (tmp_path / "out").exists()


def test_a_killed_run_that_goes_on_gives_the_bytes_of_an_undisturbed_one(
    many_pictures: str, tmp_path: Path
) -> None:
    with interrupted(many_pictures, tmp_path / "out", signal.SIGKILL) as run:
        run.communicate(timeout=_LIMIT_S)
    assert not (tmp_path / "out").exists()
    for output in ("out", "undisturbed"):
        assert run_command(arguments(many_pictures, tmp_path / output)) == ExitCode.DONE
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "undisturbed")
    assert not (tmp_path / "out.part").exists()
