"""Hostile images in a process of their own: no crash, no hang, bounded memory, and the right outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import hostile

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_DATA = Path(os.environ.get("ENTITYCLIP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
GIBIBYTE = 1 << 30
# The child's limits: address space, CPU seconds (a hang ends with SIGXCPU), file size (no decoder writes).
_LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
runpy.run_module("tests.hostile", run_name="__main__")
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the peak of the memory is read from /proc: run on Linux"
)
needs_data = pytest.mark.skipif(
    not (TEST_DATA / "hostile.jsonl").is_file(),
    reason=f"no hostile.jsonl in {TEST_DATA}: set ENTITYCLIP_TEST_DATA to the folder of the test data",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What the child said."""

    reports: Mapping[Path, Mapping[str, Any]]
    peak_bytes: int
    stderr: str


def decode_in_child(paths: Iterable[Path]) -> Run:
    names = "\n".join(map(str, paths)) + "\n"
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LIMITED],
        input=names,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    *lines, last = map(json.loads, child.stdout.splitlines())
    return Run({Path(line["file"]): line for line in lines}, last["peak_bytes"], child.stderr)


def test_hostile_files_are_refused_within_bounded_memory(tmp_path: Path) -> None:
    refused = hostile.refused()
    for name, (data, _) in refused.items():
        (tmp_path / name).write_bytes(data)
    run = decode_in_child(tmp_path / name for name in refused)
    assert {path.name: report["outcome"] for path, report in run.reports.items()} == {
        name: reason.value for name, (_, reason) in refused.items()
    }
    assert run.peak_bytes < GIBIBYTE // 2
    assert run.stderr == ""


def test_the_largest_files_that_are_taken_fit_the_memory(tmp_path: Path) -> None:
    paths = []
    for name, data in hostile.large():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    run = decode_in_child(paths)
    assert {report["outcome"] for report in run.reports.values()} == {"ok"}
    assert len(run.reports) == len(paths)
    assert run.peak_bytes < GIBIBYTE


@pytest.fixture(scope="module")
def pack() -> tuple[list[dict[str, Any]], Run]:
    """The 440 hostile files of the test data, and what became of each."""
    rows = [json.loads(line) for line in (TEST_DATA / "hostile.jsonl").read_text().splitlines()]
    return rows, decode_in_child(TEST_DATA / row["file"] for row in rows)


@needs_data
def test_the_hostile_pack_neither_crashes_nor_fills_the_memory(
    pack: tuple[list[dict[str, Any]], Run],
) -> None:
    rows, run = pack
    by_category: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_category[row["category"]][run.reports[TEST_DATA / row["file"]]["outcome"]] += 1
    for category, outcomes in sorted(by_category.items()):
        print(f"{category:12}", dict(outcomes.most_common()))
    slowest = max(run.reports.values(), key=lambda report: float(report["seconds"]))
    print(
        f"peak {run.peak_bytes >> 20} MiB, slowest {slowest['seconds']:.2f} s ({Path(slowest['file']).name})"
    )
    assert len(run.reports) == len(rows)
    assert run.peak_bytes < GIBIBYTE
    assert run.stderr == ""
    assert not [report for report in run.reports.values() if "MemoryError" in report["detail"]]


@needs_data
def test_no_file_that_pillow_finds_broken_is_taken(pack: tuple[list[dict[str, Any]], Run]) -> None:
    rows, run = pack
    broken = [TEST_DATA / row["file"] for row in rows if row["pillow_13_0_0"]["result"] != "ok"]
    assert len(broken) > 100
    assert not [path.name for path in broken if run.reports[path]["outcome"] == "ok"]


@needs_data
def test_good_files_of_accepted_formats_are_taken(pack: tuple[list[dict[str, Any]], Run]) -> None:
    rows, run = pack
    outcomes = Counter(
        run.reports[TEST_DATA / row["file"]]["outcome"]
        for row in rows
        if row["pillow_13_0_0"]["result"] == "ok"
        and Path(row["file"]).suffix.lower() in (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".avif")
    )
    assert outcomes["ok"] > 170
    assert set(outcomes) <= {"ok", "image_too_small"}


@needs_data
@pytest.mark.parametrize(
    ("category", "expected"),
    [("truncated", {"image_undecodable"}), ("orientation", {"ok"})],
)
def test_a_whole_category_has_one_outcome(
    pack: tuple[list[dict[str, Any]], Run], category: str, expected: set[str]
) -> None:
    rows, run = pack
    found = {run.reports[TEST_DATA / row["file"]]["outcome"] for row in rows if row["category"] == category}
    assert found == expected
