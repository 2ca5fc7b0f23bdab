"""`evaluate` on a model of random weights: what it writes, prints and refuses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from model import checkpoint
from model.config import ArchitectureConfig, CheckpointConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.evaluation import command
from model.flagnews.bank import BankConfig
from model.flagnews.entities import real_entities
from worker.cli.main import run_command
from worker.errors import ExitCode

BANK = BankConfig("train", real=len(real_entities()), size=32, scenes=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "POOLS", 1)
    model = EntityClip(
        ArchitectureConfig(
            embed_dim=32,
            vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
            text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=32),
            experts=ExpertConfig(1, 1, 1),
        )
    )
    training: dict[str, object] = {"data": {"bank": asdict(BANK), "sampling": {"unseen_fold": 0}}}
    checkpoint.save(tmp_path / "model", model, CheckpointConfig(model.config, training=training))
    return tmp_path / "model"


def test_a_checkpoint_is_measured_and_remembers_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = ["evaluate", "--checkpoint", str(folder), "--cache", str(tmp_path / "cache"), "--record"]
    assert run_command([*measured, "--output", str(tmp_path / "result.json")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("EntityCLIP", "colour histogram", "chance", "unseen"))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["looks"] == 225
    stated = checkpoint.read_config(folder).metrics["flagnews"]
    assert isinstance(stated, dict)
    assert stated["recall"]["seen"] == pytest.approx(result["recall"]["seen"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "imagenet"], "unknown data"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--data", "flagnews-photo"], "needs --photos"),
        (["--data", "flagnews-photo", "--photos", "/nowhere"], "pairs.jsonl"),
    ],
)
def test_data_that_is_not_there_is_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["evaluate", "--checkpoint", str(folder), *arguments]) == ExitCode.CONFIG
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
