"""Models from a hub: what is downloaded, what is kept, and one clear line when it cannot be had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from open_clip import pretrained
from safetensors.torch import save_file

from model import checkpoint
from model.checkpoint import CheckpointError, load
from model.sources.convert import convert
from tests.hub_server import HubServer, serve
from tests.open_clip_models import (
    CONFIG,
    NAME,
    PREPROCESS,
    assert_one_line,
    assert_towers_equal,
    known_as,
    random_towers,
)


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Any:
    """open_clip's own model with random weights."""
    return random_towers(monkeypatch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on the loopback and an empty cache."""
    with serve(tmp_path / "hub") as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def publish(hub: HubServer, repository: str, **files: bytes) -> Path:
    folder = hub.folder / repository
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def publish_open_clip(hub: HubServer, original: Any) -> None:
    config = {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS}
    folder = publish(hub, "news/towers", open_clip_config__json=json.dumps(config).encode())
    (folder / "config.json").write_bytes(b'{"architectures": ["CLIPModel"]}')  # of another library
    save_file(original.state_dict(), folder / "open_clip_model.safetensors")
    torch.save(original.state_dict(), folder / "open_clip_pytorch_model.bin")


def test_an_open_clip_repository_gives_its_towers_and_preprocessing(
    hub: HubServer, original: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    publish_open_clip(hub, original)
    loaded = load("hf-hub:news/towers")
    assert_towers_equal(loaded.model, original.state_dict())
    assert loaded.config.preprocess.mean == (0.1, 0.2, 0.3)
    assert loaded.config.preprocess.std == (0.4, 0.5, 0.6)
    assert loaded.config.preprocess.resize_mode == "squash"
    assert loaded.fresh_heads
    assert hub.sent == ["open_clip_config.json", "open_clip_model.safetensors"]
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_of_ours_is_what_was_published(hub: HubServer, random_checkpoint: Path) -> None:
    files = {path.name.replace(".", "__"): path.read_bytes() for path in random_checkpoint.iterdir()}
    publish(hub, "news/entityclip", **files)
    loaded, expected = load("hf-hub:news/entityclip"), load(random_checkpoint)
    assert loaded.model_id == expected.model_id
    assert loaded.config == expected.config
    assert checkpoint.model_id(checkpoint.resolve("hf-hub:news/entityclip")) == expected.model_id


def test_a_tags_weights_are_downloaded_once(
    hub: HubServer, original: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_open_clip(hub, original)
    tag = pretrained._pcfg(hf_hub="news/towers/", quick_gelu=True, mean=(0.5, 0.5, 0.5))
    monkeypatch.setitem(pretrained._PRETRAINED, NAME, {"tagged": tag})
    first, second = load(f"open_clip:{NAME}/tagged"), load(f"open_clip:{NAME}/tagged")
    assert_towers_equal(first.model, original.state_dict())
    assert first.config.preprocess.mean == (0.5, 0.5, 0.5)
    assert first.model_id == second.model_id
    assert hub.sent == ["open_clip_model.safetensors"]


def test_pickled_weights_are_taken_where_there_are_no_others(hub: HubServer, original: Any) -> None:
    publish_open_clip(hub, original)
    (hub.folder / "news/towers/open_clip_model.safetensors").unlink()
    assert_towers_equal(load("hf-hub:news/towers").model, original.state_dict())
    assert hub.sent == ["open_clip_config.json", "open_clip_pytorch_model.bin"]


def test_what_was_downloaded_serves_without_a_network(
    hub: HubServer, original: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_open_clip(hub, original)
    first = load("hf-hub:news/towers")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load("hf-hub:news/towers").model_id == first.model_id


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("news/nothing", "has no model news/nothing"),
        ("news/gated", "is gated: accept its terms"),
        ("news/empty", r"holds neither config\.json nor open_clip_config\.json"),
        ("news/lost", r"holds none of open_clip_model\.safetensors, open_clip_pytorch_model\.bin"),
        ("news/foreign", "unknown field `architectures`"),
        ("news/broken", "open_clip_config.json: Expecting"),
        ("not a name", "'not a name' is no name of a hub's repository"),
        ("", "'' is no name of a hub's repository"),
    ],
)
def test_another_repository_is_one_line(
    repository: str, message: str, hub: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    config = json.dumps({"model_cfg": CONFIG}).encode()
    publish(hub, "news/gated", gated=b"")
    publish(hub, "news/empty", README__md=b"nothing here")
    publish(hub, "news/lost", open_clip_config__json=config)
    publish(hub, "news/foreign", config__json=b'{"architectures": []}', model__safetensors=b"")
    publish(hub, "news/broken", open_clip_config__json=b"{", open_clip_model__safetensors=b"")
    with pytest.raises(CheckpointError, match=message) as error:
        load(f"hf-hub:{repository}")
    assert_one_line(error, capfd)


def test_no_network_is_one_line_that_says_what_to_do(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    known_as(monkeypatch, CONFIG)
    tag = pretrained._pcfg(hf_hub="news/towers/", quick_gelu=True)
    monkeypatch.setitem(pretrained._PRETRAINED, NAME, {"tagged": tag})
    hub.shutdown()
    hub.server_close()  # its port now refuses
    with pytest.raises(CheckpointError, match="cannot download") as error:
        load(f"open_clip:{NAME}/tagged")
    for part in (
        hub.url,
        "hf download news/towers open_clip_model.safetensors",
        f"open_clip:{NAME}/FILE",
    ):
        assert part in str(error.value)
    assert_one_line(error, capfd)


def test_a_hub_that_never_answers_is_given_up(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.sources.hub._TIMEOUT_S", 0.2)
    hub.silent.set()
    with pytest.raises(CheckpointError, match=r"cannot download .* \(timed out\)") as error:
        load("hf-hub:news/towers")
    assert_one_line(error, capfd)


def test_a_hub_out_of_order_is_one_line(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    hub.failing.set()
    with pytest.raises(CheckpointError, match=r"cannot download .* \(HTTP 503\)") as error:
        load("hf-hub:news/towers")
    assert_one_line(error, capfd)


def test_an_offline_environment_is_named(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set") as error:
        load("hf-hub:news/towers")
    assert_one_line(error, capfd)


def test_expert_counts_are_checked_against_a_published_checkpoint(
    hub: HubServer, random_checkpoint: Path, tmp_path: Path
) -> None:
    files = {path.name.replace(".", "__"): path.read_bytes() for path in random_checkpoint.iterdir()}
    publish(hub, "news/entityclip", **files)
    with pytest.raises(ValueError, match="hf-hub:news/entityclip has 1,1,1 experts, not 212"):
        convert("hf-hub:news/entityclip", tmp_path / "out", "212")
