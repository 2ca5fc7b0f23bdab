"""The serving towers against open_clip's own forward pass."""

from __future__ import annotations

import msgspec
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional

from model import backbone as towers
from model.config import ArchitectureConfig, TextConfig, VisionConfig
from model.serving.precision import choose_precision
from model.serving.towers import ModuleTowers, Precision, serving_towers

CONFIG = ArchitectureConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=32, patch_size=8, width=64, layers=3, head_width=16),
    text=TextConfig(width=48, heads=3, layers=3, vocab_size=600),
)


def build(*, quick_gelu: bool = True) -> CLIP:
    torch.manual_seed(0)
    backbone = towers.build_backbone(msgspec.structs.replace(CONFIG, quick_gelu=quick_gelu))
    for weight in backbone.parameters():  # fresh biases are zero, and would hide that one is forgotten
        weight.data += 0.02 * torch.randn_like(weight)
    return backbone.eval()


def images() -> Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def texts() -> Tensor:
    """Rows that end at different places, padded with 0."""
    ids = torch.randint(1, 598, (4, 20), generator=torch.Generator().manual_seed(2))
    for row, end in enumerate((1, 5, 12, 19)):
        ids[row, end] = 599
        ids[row, end + 1 :] = 0
    return ids


def cosines(first: Tensor, second: Tensor) -> Tensor:
    return functional.cosine_similarity(first.float(), second.float(), dim=-1)


@pytest.mark.parametrize("quick_gelu", [True, False])
@torch.inference_mode()
def test_both_towers_give_what_open_clip_gives(quick_gelu: bool) -> None:
    backbone = build(quick_gelu=quick_gelu)
    served = serving_towers(backbone)
    torch.testing.assert_close(
        served.image_features(images()), towers.image_features(backbone, images()), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        served.text_features(texts()), towers.text_features(backbone, texts()), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("quick_gelu", [True, False])
@torch.inference_mode()
def test_bf16_products_turn_the_vectors_by_rounding_only(quick_gelu: bool) -> None:
    backbone = build(quick_gelu=quick_gelu)
    served = serving_towers(backbone, "bf16")
    assert cosines(served.image_features(images()), towers.image_features(backbone, images())).min() > 0.9999
    assert cosines(served.text_features(texts()), towers.text_features(backbone, texts())).min() > 0.9999


@torch.inference_mode()
def test_bf16_rounds_less_than_a_model_that_is_cast_as_a_whole() -> None:
    backbone = build()
    reference = towers.text_features(backbone, texts())
    mixed = cosines(serving_towers(backbone, "bf16").text_features(texts()), reference)
    cast = cosines(towers.text_features(build().to(torch.bfloat16), texts()), reference)
    assert (1 - mixed).mean() < (1 - cast).mean()


@torch.inference_mode()
def test_what_follows_the_eot_does_not_show() -> None:
    served, padded = serving_towers(build()), texts()
    noisy = torch.where(padded == 0, 7, padded)
    torch.testing.assert_close(served.text_features(noisy), served.text_features(padded))


@torch.inference_mode()
def test_a_tower_of_other_blocks_is_served_by_its_own_forward_pass() -> None:
    backbone = build()
    backbone.visual.transformer.resblocks[1].ls_1 = torch.nn.Linear(64, 64)
    served = serving_towers(backbone, "bf16")
    assert isinstance(served, ModuleTowers)
    assert served.precision == "fp32"
    torch.testing.assert_close(served.image_features(images()), towers.image_features(backbone, images()))


def test_the_quickest_precision_is_chosen_among_those_that_are_exact() -> None:
    choice = choose_precision(build(), torch.device("cpu"))
    assert set(choice.seconds) == {"fp32", "bf16"}
    assert choice.seconds[choice.precision] == min(choice.seconds.values())
    assert choice.cosine["fp32"] == pytest.approx(1, abs=1e-5)
    assert choice.line().startswith(f"{choice.precision}; tried: fp32 ")


def test_a_precision_that_overflows_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build()
    real = serving_towers

    def overflowing(model: CLIP, precision: Precision = "fp32") -> object:
        made = real(model, precision)
        if precision == "bf16":
            made.text_features = lambda text: torch.full((len(text), 32), torch.nan)  # type: ignore[method-assign]
        return made

    monkeypatch.setattr("model.serving.precision.serving_towers", overflowing)
    choice = choose_precision(backbone, torch.device("cpu"))
    assert choice.precision == "fp32"
    assert choice.cosine["bf16"] == -1.0
