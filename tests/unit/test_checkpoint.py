"""Checkpoint directories: round trip, identity, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from model import checkpoint
from model.config import CheckpointConfig, ExpertConfig, MatchingConfig, PreprocessConfig
from tests.unit.test_entityclip import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = build(attend_padding=False)
    checkpoint.save(tmp_path / "model", model, CheckpointConfig(architecture=model.config))
    return tmp_path / "model"


def test_weights_and_config_come_back(folder: Path) -> None:
    loaded, original = checkpoint.load(folder), build(attend_padding=False)
    assert loaded.config.architecture == original.config
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert not loaded.model.training


def test_half_precision_weights_are_read_as_float32(folder: Path) -> None:
    model = build(attend_padding=False)
    checkpoint.save(folder, model, CheckpointConfig(architecture=model.config), dtype=torch.float16)
    assert {tensor.dtype for tensor in checkpoint.load(folder).model.state_dict().values()} == {torch.float32}


def test_model_id_changes_with_the_weights(folder: Path) -> None:
    first, model = checkpoint.model_id(folder), build(attend_padding=False)
    config = CheckpointConfig(architecture=model.config)
    checkpoint.save(folder, model, config)
    assert checkpoint.model_id(folder) == first
    torch.nn.init.zeros_(model.itm_head.weight)
    checkpoint.save(folder, model, config)
    assert checkpoint.model_id(folder) != first


@pytest.mark.parametrize(
    "change",
    [
        {"text": "concat"},
        {"preprocess": PreprocessConfig(resize_mode="squash")},
        {"architecture": replace(build(attend_padding=False).config, quick_gelu=False)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_model_id_changes_with_what_shapes_the_vectors(folder: Path, change: dict[str, Any]) -> None:
    first = checkpoint.model_id(folder)
    checkpoint.write_config(folder, replace(checkpoint.read_config(folder), **change))
    assert checkpoint.model_id(folder) != first


@pytest.mark.parametrize(
    "change",
    [{"matching": MatchingConfig(threshold=0.9)}, {"metrics": {"recall": 1}}, {"training": {"seed": 3}}],
    ids=lambda change: next(iter(change)),
)
def test_model_id_stays_while_the_vectors_do(folder: Path, change: dict[str, Any]) -> None:
    first = checkpoint.model_id(folder)
    checkpoint.write_config(folder, replace(checkpoint.read_config(folder), **change))
    assert checkpoint.model_id(folder) == checkpoint.load(folder).model_id == first


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match=r"is no checkpoint: it needs config\.json"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "truncated"),
        (b'{"architecture": {}, "colour": 1}', "unknown field"),
        (b'{"architecture": {"embed_dim": "wide"}}', "Expected `int`"),
        (b'{"architecture": {}, "format_version": 1}', "checkpoint format 1"),
    ],
)
def test_an_invalid_config_is_one_line(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=message) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)


def test_cut_weights_are_one_line(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(checkpoint.CheckpointError, match=r"model\.safetensors") as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)


def test_weights_of_another_architecture_are_one_line(folder: Path) -> None:
    config = (folder / "config.json").read_text().replace('"embed_dim": 32', '"embed_dim": 48')
    (folder / "config.json").write_text(config)
    with pytest.raises(checkpoint.CheckpointError, match="do not fit") as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_written_are_an_os_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.part").mkdir()  # a folder in the file's place
    model = build(attend_padding=False)
    with pytest.raises(OSError, match=r"model\.safetensors\.part cannot be written"):
        checkpoint.save(tmp_path, model, CheckpointConfig(architecture=model.config))


@pytest.mark.parametrize("counts", [(-1, 2, 2), (0, 0, 3), (3, 0, 0)])
def test_experts_that_leave_a_tower_without_any_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expert"):
        ExpertConfig(*counts)
