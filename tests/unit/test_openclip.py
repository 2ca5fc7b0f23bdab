"""Models from open_clip: exact weights, fresh heads, and one clear line for all the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import model as entityclip
from model import checkpoint
from model.checkpoint import CheckpointError, load
from model.config import ExpertConfig
from model.sources.convert import convert
from tests.open_clip_models import (
    CONFIG,
    NAME,
    assert_one_line,
    assert_towers_equal,
    known_as,
    random_towers,
)
from worker.cli.main import run_command


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Any:
    """open_clip's own model with random weights."""
    return random_towers(monkeypatch)


@pytest.fixture
def weights(original: Any, tmp_path: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": original.state_dict()}, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


class TestWeightsFromAFile:
    def test_towers_are_those_of_open_clip(self, original: Any, weights: Path) -> None:
        model = load(f"open_clip:{NAME}/{weights}").model
        image, text = torch.randn(2, 3, 32, 32), torch.zeros(2, 16, dtype=torch.long)
        text[:, :4] = torch.tensor([49406, 320, 1125, 49407])
        with torch.no_grad():
            out = model(image, text, text)
            expected = original.encode_image(image, normalize=True)
            torch.testing.assert_close(out.image_features, expected, atol=1e-6, rtol=0)
            expected = original.encode_text(text, normalize=True)
            torch.testing.assert_close(out.text_features, expected, atol=1e-6, rtol=0)

    def test_configuration_is_open_clips(self, weights: Path) -> None:
        loaded = load(f"open_clip:{NAME}/{weights}")
        config = loaded.config.architecture
        assert (config.name, config.embed_dim, config.quick_gelu) == (NAME, 24, True)
        assert (config.vision.width, config.vision.head_width, config.vision.patch_size) == (96, 48, 16)
        assert (config.text.heads, config.text.layers, config.text.context_length) == (4, 2, 16)
        assert config.experts == ExpertConfig(4, 4, 4, attend_padding=False)
        assert loaded.fresh_heads

    def test_safetensors_are_read(self, original: Any, tmp_path: Path) -> None:
        save_file(original.state_dict(), tmp_path / "weights.safetensors")
        model = load(f"open_clip:{NAME}/{tmp_path}/weights.safetensors").model
        assert_towers_equal(model, original.state_dict())

    def test_half_precision_is_widened_exactly(self, original: Any, tmp_path: Path) -> None:
        half = {name: tensor.half() for name, tensor in original.state_dict().items()}
        torch.save(half, tmp_path / "half.pt")
        assert_towers_equal(load(f"open_clip:{NAME}/{tmp_path}/half.pt").model, half)

    def test_openais_torchscript_archive_keeps_its_float32_weights(
        self, original: Any, tmp_path: Path
    ) -> None:
        state = dict(original.state_dict())
        scalars = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}
        archive = {**state, **{name: torch.tensor(value) for name, value in scalars.items()}}
        with pytest.warns(FutureWarning, match="deprecated"):
            torch.jit.script(module_tree(archive)).save(tmp_path / "openai.pt")  # type: ignore[no-untyped-call]
        assert_towers_equal(load(f"open_clip:{NAME}/{tmp_path}/openai.pt").model, state)

    def test_a_loaded_model_is_saved_and_loaded_back_identically(self, weights: Path, tmp_path: Path) -> None:
        first = load(f"open_clip:{NAME}/{weights}", experts=ExpertConfig(2, 0, 1))
        checkpoint.save(tmp_path / "out", first.model, first.config)
        second = load(tmp_path / "out")
        assert second.config == first.config
        assert not second.fresh_heads
        expected = first.model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in second.model.state_dict().items())

    def test_heads_depend_on_the_seed_alone(self, weights: Path) -> None:
        source = f"open_clip:{NAME}/{weights}"
        torch.manual_seed(1)
        first = load(source, seed=7)
        before = torch.random.get_rng_state()
        second, third = load(source, seed=7), load(source, seed=8)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert first.model_id == second.model_id != third.model_id
        assert len(first.model_id) == 12
        assert int(first.model_id, 16) >= 0

    def test_experts_are_as_asked_for(self, weights: Path) -> None:
        experts = ExpertConfig(1, 2, 3, attend_padding=True)
        loaded = entityclip.load(f"open_clip:{NAME}/{weights}", experts=experts)
        assert loaded.config.architecture.experts == experts
        assert loaded.model.explanation_experts.count == 2

    def test_weights_of_another_architecture_are_one_line(
        self, original: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        state = original.state_dict() | {"visual.positional_embedding": torch.zeros(17, 96)}
        torch.save(state, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=r"does not fit ViT-Test: of another shape") as error:
            load(f"open_clip:{NAME}/{tmp_path}/other.pt")
        assert_one_line(error, capfd)


def module_tree(state: dict[str, Tensor]) -> nn.Module:
    """A module with exactly this state dict."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(leaf, tensor)
    return root


class TestNames:
    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("ViT-B32/openai", "no model 'ViT-B32'; near it: ViT-B-32"),
            ("vit-b-32-quickgelu/openai", "near it: ViT-B-32-quickgelu"),
            ("ViT-B-16/laion2b", "no weights 'laion2b' of ViT-B-16; near it: laion2b_s34b_b88k"),
            ("ViT-B-16/zzz", "no weights 'zzz' of ViT-B-16: open_clip:ViT-B-16/TAG with one of openai, "),
            ("ViT-B-16", "which weights of ViT-B-16"),
            ("ViT-B-16/nowhere/file.pt", "no file nowhere/file.pt"),
            ("ViT-B-16/file.pt", "no file file.pt"),
            ("", "no model ''"),
        ],
    )
    def test_an_unknown_name_is_one_line_with_near_names(
        self, spec: str, message: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(CheckpointError, match=message) as error:
            load(f"open_clip:{spec}")
        assert_one_line(error, capfd)

    def test_weights_for_the_other_activation_name_the_right_model(self) -> None:
        with pytest.raises(CheckpointError, match="say open_clip:ViT-B-32-quickgelu/openai"):
            load("open_clip:ViT-B-32/openai")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("RN50", "ResNet"),
            ("ViT-B-16-SigLIP", "SigLIP"),
            ("coca_ViT-B-32", "CoCa"),
            ("roberta-ViT-B-32", "text tower is roberta-base"),
            ("EVA02-B-16", "timm's eva02"),
            ("ViT-L-14-CLIPA", "not pooled at its class token"),
        ],
    )
    def test_a_model_entityclip_cannot_use_says_why(
        self, name: str, reason: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(CheckpointError, match=f"cannot use {name}: .*{reason}") as error:
            load(f"open_clip:{name}/any")
        assert_one_line(error, capfd)

    @pytest.mark.parametrize(
        ("part", "setting", "reason"),
        [
            ("vision_cfg", {"patch_dropout": 0.5}, "image tower has patch_dropout = 0.5"),
            ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}, "image tower has norm_kwargs"),
            ("vision_cfg", {"no_ln_pre": True}, "image tower has no_ln_pre"),
            ("vision_cfg", {"image_size": [32, 48]}, "not square"),
            ("vision_cfg", {"surprise": 1}, "image tower has surprise = 1"),
            ("text_cfg", {"hf_tokenizer_name": "other"}, "tokenizer"),
            ("text_cfg", {"vocab_size": 32000}, "tokenizer"),
            ("text_cfg", {"no_causal_mask": True}, "not a causal one"),
            ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "text tower has tokenizer_kwargs"),
            ("text_cfg", {"proj_bias": True}, "text tower has proj_bias"),
        ],
    )
    def test_a_setting_our_configuration_lacks_is_named(
        self, part: str, setting: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known_as(monkeypatch, {**CONFIG, part: {**CONFIG[part], **setting}})
        with pytest.raises(CheckpointError, match=reason):
            load(f"open_clip:{NAME}/weights.pt")


class TestConvert:
    def test_an_open_clip_model_becomes_a_checkpoint(self, weights: Path, tmp_path: Path) -> None:
        convert(f"open_clip:{NAME}/{weights}", tmp_path / "out", "1,2,1")
        loaded = load(tmp_path / "out")
        expected = load(f"open_clip:{NAME}/{weights}", experts=ExpertConfig(1, 2, 1))
        assert loaded.config == expected.config
        assert torch.equal(loaded.model.pair_gate.weight, expected.model.pair_gate.weight)

    @pytest.mark.parametrize("folder", [["out"], ["--output", "out"]])
    def test_command_writes_the_folder_and_names_the_model(
        self,
        folder: list[str],
        weights: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run_command(["convert", f"open_clip:{NAME}/{weights}", *folder]) == 0
        assert capsys.readouterr() == (f"out: model {checkpoint.model_id(tmp_path / 'out')}\n", "")

    @pytest.mark.parametrize("folders", [[], ["a", "--output", "b"]])
    def test_command_wants_one_folder(self, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["convert", "published.pt", *folders]) == 2
        assert "name one folder to write" in capsys.readouterr().err

    def test_where_a_folder_is_needed_the_command_that_writes_it_is_named(self) -> None:
        with pytest.raises(CheckpointError, match="entityclip convert open_clip:ViT-B-16/openai DIR"):
            checkpoint.resolve("open_clip:ViT-B-16/openai")

    def test_a_checkpoint_keeps_its_own_experts(self, random_checkpoint: Path) -> None:
        loaded = load(random_checkpoint, experts=ExpertConfig(2, 1, 1))
        assert loaded.config.architecture.experts == ExpertConfig(1, 1, 1)
        assert not loaded.fresh_heads
