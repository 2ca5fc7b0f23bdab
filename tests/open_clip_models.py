"""A small open_clip architecture for tests, and what is asked of models that come from elsewhere."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory
from torch import Tensor

from model.checkpoint import CheckpointError
from model.entityclip import EntityClip

NAME = "ViT-Test"
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 96, "head_width": 48, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
}
PREPROCESS = {
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "resize_mode": "squash",
    "interpolation": "bicubic",
}


def known_as(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], name: str = NAME) -> None:
    """Make open_clip know an architecture; `monkeypatch` takes it back."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)


def random_towers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """open_clip's own model of that architecture, with random weights."""
    known_as(monkeypatch, CONFIG)
    torch.manual_seed(3)
    return open_clip.create_model(NAME).eval()


def assert_towers_equal(model: EntityClip, expected: dict[str, Tensor]) -> None:
    towers = model.backbone.state_dict()
    assert set(towers) == set(expected)
    for name, tensor in towers.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name].float()), name


def assert_one_line(error: pytest.ExceptionInfo[CheckpointError], capfd: pytest.CaptureFixture[str]) -> None:
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
