"""`entityclip bench encode` from the command line to the report."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.random_model import random_model
from worker.bench.posts import to_jpeg
from worker.bench.report import Report
from worker.cli.main import run_command
from worker.errors import ExitCode


def _data(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    (folder / "a.jpg").write_bytes(to_jpeg(pixels))
    path = folder / "posts.jsonl"
    path.write_text(json.dumps({"text": "A ship in a harbour", "image": "a.jpg"}) + "\n")
    return path


def _run(folder: Path, *more: str) -> Report:
    random_model(folder / "model", seed=0)
    own = [
        "--model",
        folder / "model",
        "--data",
        _data(folder),
        "--device",
        "cpu",
        "--json",
        folder / "out.json",
    ]
    assert run_command(["bench", "encode", "--posts", "3", *map(str, own), *more]) == ExitCode.DONE
    return msgspec.json.decode((folder / "out.json").read_bytes(), type=Report)


def test_it_writes_and_prints_rates_parts_and_cosines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = _run(tmp_path, "--rounds", "2")
    titles = [section.title for section in report.sections]
    assert titles == ["Rates", "Where the time goes", "Cosine of our vectors to the reference's"]
    cosines = {row.name: row.values["worst"] for row in report.sections[2].rows}
    assert set(cosines) == {"images", "texts", "explanations"}
    assert cosines["texts"] > 0.999
    assert report.settings["precision"] in ("fp32", "bf16")
    ratio = report.ratios[0].value.median
    assert f"posts/s, ours over the reference: {ratio:.2f} ×" in capsys.readouterr().out


@pytest.mark.slow
def test_it_compares_recall_on_flagnews(tmp_path: Path) -> None:
    report = _run(tmp_path, "--rounds", "1", "--recall", "1", "--cache", str(tmp_path))
    assert report.sections[-1].title == "Recall on FlagNews"
    assert [row.name for row in report.sections[-1].rows] == [
        "image_to_text_R@1",
        "image_to_text_R@10",
        "text_to_image_R@1",
        "text_to_image_R@10",
    ]


def test_an_unknown_model_is_one_line_and_a_configuration_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(tmp_path / "missing"), "--data", str(_data(tmp_path))]
    assert run_command(["bench", "encode", *arguments]) == ExitCode.CONFIG
    assert len(capsys.readouterr().err.splitlines()) == 1
