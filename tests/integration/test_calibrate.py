"""`entityclip calibrate`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from model import checkpoint
from model.calibration import Calibration, PairParts
from model.config import CheckpointConfig
from model.evaluation.calibration import command
from model.flagnews.bank import BankConfig
from model.flagnews.entities import real_entities
from worker.cli.main import run_command
from worker.errors import ExitCode


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to write into."""
    return Path(shutil.copytree(random_checkpoint, tmp_path / "model"))


@pytest.fixture
def labelled(folder: Path, tmp_path: Path) -> Path:
    """2,000 match records; the higher the cosine the more are right."""
    rng, model_id = np.random.default_rng(0), checkpoint.model_id(folder)
    cosine = rng.uniform(-0.5, 0.8, 2000)
    label = rng.random(2000) < 1 / (1 + np.exp(-(15 * cosine - 4)))
    lines = [
        {
            "cosine": round(float(each), 4),
            "label": bool(right),
            "text_post_id": f"post-{number // 3}",
            "model_id": model_id,
        }
        for number, (each, right) in enumerate(zip(cosine, label, strict=True))
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_labelled_pairs_calibrate_a_checkpoint_in_place(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_id, weights = checkpoint.model_id(folder), (folder / "model.safetensors").stat()
    report, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    arguments = ["--pairs", str(labelled), "--precision", "0.9", "--report", str(report), "--plot", str(plot)]
    assert run_command(["calibrate", "--checkpoint", str(folder), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "2,000 pairs in 667 groups" in printed
    assert printed.endswith(f"{folder}: model {model_id}\n")  # its vectors are the same
    assert (folder / "model.safetensors").stat() == weights
    config = checkpoint.read_config(folder)
    assert Calibration.of(config.matching).score(PairParts(4 / 15)) == pytest.approx(0.5, abs=0.05)
    found = json.loads(report.read_bytes())
    assert found["threshold"]["threshold"] == config.matching.threshold
    assert found["threshold"]["precision"] >= 0.9
    assert found["report"]["losses"]["log_loss"] < found["report"]["base"]["log_loss"]
    facts = config.metrics["calibration"]
    assert isinstance(facts, dict)
    assert facts["brier"] == pytest.approx(found["report"]["losses"]["brier"], abs=1e-4)
    assert plot.read_text().startswith("<?xml")


def test_a_precision_out_of_reach_keeps_the_best_f1_and_says_so(
    folder: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--pairs", str(labelled), "--precision", "0.9999"]
    lines = labelled.read_text().splitlines()
    wrong = json.dumps({**json.loads(lines[0]), "cosine": 0.9, "label": False, "text_post_id": "top"})
    labelled.write_text("\n".join([*lines, *[wrong] * 20]))
    assert run_command(["calibrate", "--checkpoint", str(folder), *arguments]) == 1
    assert "no threshold keeps a precision of 0.9999; that of the highest F1" in capsys.readouterr().out
    assert 0.1 < checkpoint.read_config(folder).matching.threshold < 0.9


def test_a_checkpoint_in_half_precision_is_another_model(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, output = checkpoint.model_id(folder), tmp_path / "half"
    arguments = ["--pairs", str(labelled), "--half", "--output", str(output)]
    assert run_command(["calibrate", "--checkpoint", str(folder), *arguments]) == 0
    assert checkpoint.model_id(output) != before == checkpoint.model_id(folder)
    assert f"not those of model {before}" in capsys.readouterr().out


def test_another_folder_gets_the_same_weights(folder: Path, labelled: Path, tmp_path: Path) -> None:
    arguments = ["--pairs", str(labelled), "--output", str(tmp_path / "copy")]
    assert run_command(["calibrate", "--checkpoint", str(folder), *arguments]) == 0
    assert checkpoint.load(tmp_path / "copy").model_id == checkpoint.model_id(folder)
    assert checkpoint.read_config(folder).matching != checkpoint.read_config(tmp_path / "copy").matching


def test_flagnews_gives_the_top_hits_among_seen_looks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "POOLS", 1)
    config = checkpoint.read_config(folder)
    bank = BankConfig("train", real=len(real_entities()), size=32, scenes=8)
    training: dict[str, object] = {"data": {"bank": asdict(bank), "sampling": {"unseen_fold": 0}}}
    checkpoint.write_config(folder, CheckpointConfig(config.architecture, training=training))
    source = command.flagnews_source(folder, tmp_path / "cache")
    looks = len(np.unique(source.pairs.group))
    assert 150 < looks <= 225 * 0.85  # a fifth is left out
    assert source.positives == 2 * looks
    assert len(source.pairs) == 2 * 5 * looks
    assert source.pairs.common_parts() == ("cosine", "margin", "explanation_similarity")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], ExitCode.CONFIG, "not trained on FlagNews"),
        (["--pairs", "/nowhere.jsonl"], ExitCode.CONFIG, "/nowhere.jsonl: No such file"),
        (["--pairs", "{bad}"], ExitCode.CONFIG, "no labelled pair can be used; the first line: "),
        (["--pairs", "{labelled}", "--parts", "cosine,itm"], ExitCode.CONFIG, "no labelled pair has itm"),
        (["--pairs", "{labelled}", "--plot", "a.txt"], ExitCode.CONFIG, "a plot ends in .png"),
        (["--pairs", "{labelled}", "--precision", "95"], ExitCode.USAGE, "95 is not between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_changes_nothing(
    arguments: list[str],
    code: int,
    message: str,
    folder: Path,
    labelled: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (folder / "config.json").read_bytes()
    bad = labelled.with_name("bad.jsonl")
    bad.write_text("nothing\n")
    given = [each.format(labelled=labelled, bad=bad) for each in arguments]
    assert run_command(["calibrate", "--checkpoint", str(folder), *given]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (folder / "config.json").read_bytes() == before
