"""The checkpoint that ships: small, honest about itself, and as good as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model import checkpoint
from model.evaluation.flagnews import pool_recall
from model.flagnews.bank import BankConfig, load_bank
from model.flagnews.entities import real_entities
from model.flagnews.pools import draw_pools, seen_mask
from model.serving.encoder import Encoder
from worker.cli.main import run_command

_MOST_BYTES = 15_000_000


def test_the_checkpoint_is_small_enough_to_ship() -> None:
    folder = checkpoint.resolve(checkpoint.TINY)
    assert sum(path.stat().st_size for path in folder.iterdir()) < _MOST_BYTES


def test_new_pictures_are_recognised_as_well_as_the_checkpoint_says(tmp_path: Path) -> None:
    loaded = checkpoint.load()
    config = BankConfig(
        "test", 2 * len(real_entities()), loaded.config.architecture.vision.image_size, seed=99
    )
    pools = draw_pools(load_bank(config, tmp_path), 2)
    facts = loaded.config.training["data"]
    assert isinstance(facts, dict)
    seen = seen_mask(pools[0].look, facts["sampling"]["unseen_fold"])
    found = pool_recall(Encoder.of(loaded), pools, seen, seed=99)["seen"]
    stated = loaded.config.metrics["flagnews"]
    assert isinstance(stated, dict)
    for name, value in found.items():
        # 360 queries: three standard errors of a half are 8 points
        assert value == pytest.approx(stated["recall"]["seen"][name], abs=0.08), name


def test_the_demo_finds_pairs_and_is_mostly_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["demo"]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"precision (\d+) % .* recall (\d+) %", printed)
    assert found is not None, printed
    precision, recall = map(int, found.groups())
    assert precision >= 70
    assert recall >= 30
