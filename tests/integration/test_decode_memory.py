"""Decoding and encoding large pictures in threads: memory is bounded by the budgets, however many come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the peak of the memory is read from /proc: run on Linux"
)
@pytest.mark.parametrize("budget", [2_000_000, 16_000_000])
def test_the_peak_keeps_to_the_budget_and_does_not_grow_with_the_stream(budget: int) -> None:
    command = [sys.executable, "-m", "benchmarks.decode_memory", "--budget", str(budget), "--rounds", "4"]
    originals = (
        Path(os.environ.get("ENTITYCLIP_TEST_DATA", _REPOSITORY.parent / "shared" / "data")) / "originals"
    )
    if originals.is_dir():
        command += ["--originals", str(originals)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    figures = json.loads(run.stdout)
    assert figures["base"] < figures["peak"] < figures["bound"]
    assert figures["peak"] - figures["first_round"] < (figures["bound"] - figures["base"]) / 4
