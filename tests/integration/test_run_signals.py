"""SIGTERM before the first record and after the last one: everything is closed in order, status 0."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_RUN = """
import os, signal, sys
import worker.build
from worker.cli.main import main
from worker.transport.files import FileSource

def terminated(work):
    def first(*args, **options):
        print("in", work.__name__, flush=True)
        os.kill(os.getpid(), int(sys.argv[2]))
        return work(*args, **options)
    return first

if sys.argv[1] == "loading":
    worker.build._load = terminated(worker.build._load)
else:
    FileSource.close = terminated(FileSource.close)
main(sys.argv[3:])
"""


def run(folder: Path, moment: str, number: int) -> subprocess.CompletedProcess[str]:
    (folder / "posts.jsonl").write_text('{"id": "a", "text": "The mayor of Lyon speaks."}\n')
    arguments = ["--source", f"file:{folder / 'posts.jsonl'}", "--sink", f"file:{folder / 'matches.jsonl'}"]
    command = [sys.executable, "-c", _RUN, moment, str(number), "run", *arguments]
    command += ["--store", str(folder / "store"), "--outcomes", f"file:{folder / 'outcomes.jsonl'}"]
    return subprocess.run(
        command,
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )


def test_sigterm_while_loading_ends_in_order(tmp_path: Path) -> None:
    """In a container, where this is process 1, a signal that nobody handles would not even arrive."""
    ended = run(tmp_path, "loading", signal.SIGTERM)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "in _load" in ended.stdout
    assert not (tmp_path / "store").exists()


def test_ctrl_c_while_loading_is_code_130(tmp_path: Path) -> None:
    ended = run(tmp_path, "loading", signal.SIGINT)
    assert (ended.returncode, ended.stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_while_everything_is_closed_does_not_cut_that_short(tmp_path: Path, number: int) -> None:
    ended = run(tmp_path, "closing", number)
    assert "in close" in ended.stdout
    assert ended.returncode == (0 if number == signal.SIGTERM else 130), ended.stderr
    assert "1 posts in" in ended.stdout
    assert json.loads((tmp_path / "outcomes.jsonl").read_text())["post_id"] == "a"
    (offsets,) = tmp_path.glob("*.offsets-*.json")
    assert json.loads(offsets.read_text()) == {}  # finished, which the close notes last
