"""`load_published` reads any sizes and expert counts from the shapes, and refuses the rest in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import checkpoint
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.sources.convert import convert
from model.sources.published import load_published
from tests.parity import naive_towers
from worker.bench.published import PublishedEntityClip

TEXT = TextConfig(width=64, heads=1, layers=1, vocab_size=300, context_length=12)
VISION = VisionConfig(image_size=32, patch_size=16, width=64, layers=1)
SHAPES = {
    "plain": ArchitectureConfig(32, VISION, TEXT),
    "text width no multiple of 64": ArchitectureConfig(
        40, VISION, TextConfig(width=160, heads=2, layers=2, vocab_size=99, context_length=20)
    ),
    "image width no multiple of 64": ArchitectureConfig(
        24, VisionConfig(image_size=30, patch_size=6, width=96, layers=3, head_width=96), TEXT
    ),
    "narrower than one head": ArchitectureConfig(
        16,
        VisionConfig(image_size=14, patch_size=14, width=48, layers=1, head_width=48),
        TextConfig(width=32, heads=1, layers=3, vocab_size=300, context_length=77),
    ),
    "several heads": ArchitectureConfig(
        72,
        VisionConfig(image_size=48, patch_size=8, width=192, layers=2),
        TextConfig(width=128, heads=2, layers=2, vocab_size=500, context_length=9),
    ),
}


def published(
    experts: tuple[int, int, int] = (1, 1, 1), shape: ArchitectureConfig = SHAPES["plain"]
) -> PublishedEntityClip:
    torch.manual_seed(0)
    config = ArchitectureConfig(
        shape.embed_dim, shape.vision, shape.text, ExpertConfig(*experts, attend_padding=True)
    )
    model = PublishedEntityClip(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(config: ArchitectureConfig) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    size, text = config.vision.image_size, config.text
    ids = torch.randint(1, text.vocab_size - 1, (6, text.context_length))
    ids[:, 5], ids[:, 6:] = text.vocab_size - 1, 0
    return torch.randn(3, 3, size, size), ids[:3], ids[3:]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_towers_of_any_shape_equal_the_plain_transcription(shape: ArchitectureConfig) -> None:
    state = published(shape=shape).published_state()
    model = load_published(state, "111")
    image, text, explanation = inputs(model.config)
    with torch.no_grad():
        out = model(image, text, explanation)
        expected = naive_towers.image_tokens(state, image)
        torch.testing.assert_close(out.image_tokens, expected, atol=1e-5, rtol=1e-5)
        expected = naive_towers.text_tokens(state, text)
        torch.testing.assert_close(out.text_tokens, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("experts", "written"),
    [
        ((0, 2, 1), "021"),
        ((2, 0, 1), "201"),
        ((3, 1, 0), [3, 1, 0]),
        ((1, 11, 2), "1,11,2"),
        ((10, 1, 1), (10, 1, 1)),
        ((1, 2, 3), None),
    ],
)
def test_any_number_of_experts_gives_the_published_outputs(
    experts: tuple[int, int, int], written: str | list[int] | None
) -> None:
    reference = published(experts)
    model = load_published(reference.published_state(), written)
    image, text, explanation = inputs(model.config)
    with torch.no_grad():
        tokens = reference.encode(image, text, explanation)
        out = model(image, text, explanation)
        fused_image, fused_text = reference.fused(tokens)
        torch.testing.assert_close(out.fused_image_features, fused_image, atol=1e-5, rtol=0)
        torch.testing.assert_close(out.fused_text_features, fused_text, atol=1e-5, rtol=0)
        logits = model.itm_logits(tokens.image, tokens.text, tokens.explanation, tokens.eot)
        torch.testing.assert_close(logits, reference.matching(tokens)[0], atol=1e-5, rtol=1e-5)
    assert model.config.experts == ExpertConfig(*experts, attend_padding=True)


def test_a_converted_checkpoint_gives_the_published_outputs(tmp_path: Path) -> None:
    reference = published((2, 0, 1))
    torch.save(reference.published_state(), tmp_path / "published.pt")
    convert(tmp_path / "published.pt", tmp_path / "out")
    model = checkpoint.load(tmp_path / "out").model
    image, text, explanation = inputs(model.config)
    with torch.no_grad():
        tokens = reference.encode(image, text, explanation)
        logits = model.itm_logits(tokens.image, tokens.text, tokens.explanation, tokens.eot)
        torch.testing.assert_close(logits, reference.matching(tokens)[0], atol=1e-5, rtol=1e-5)
    assert model.config.experts.attend_padding


def test_half_precision_is_widened_without_another_rounding() -> None:
    state = {name: tensor.half() for name, tensor in published().published_state().items()}
    assert_same_weights(load_published(state), load_published({n: t.float() for n, t in state.items()}))


def test_prefixes_and_scalars_of_training_scripts_are_dropped() -> None:
    state = published().published_state()
    dressed = {f"module.{name}": tensor for name, tensor in state.items()}
    scalars = {"input_resolution": 32, "context_length": 12, "vocab_size": 300}
    dressed |= {f"module.{name}": torch.tensor(value) for name, value in scalars.items()}
    assert_same_weights(load_published(dressed), load_published(state))


def assert_same_weights(first: EntityClip, second: EntityClip) -> None:
    expected = second.state_dict()
    assert first.config == second.config
    for name, tensor in first.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("written", ["44", "4444", "4a4", "", "1,2", "1,,3", [4, 4], [4, -1, 4], "²²²"])
def test_other_ways_to_write_expert_counts_are_refused(written: str | list[int]) -> None:
    with pytest.raises(ValueError, match="is not three counts"):
        load_published(published().published_state(), written)


def test_other_expert_counts_than_the_weights_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="the weights hold 12,1,0 experts, not 440"):
        load_published(published((12, 1, 0)).published_state(), "440")


def without(state: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("visual.conv1", r"visual\.conv1\.weight is missing"),
        ("text_projection", "text_projection is missing"),
        ("visual.transformer.resblocks.1.", r"resblocks\.1\. is missing"),
        ("share_expert_0", r"share_expert_0\. is missing"),
        ("text_expert_1.attn.in_proj_bias", "query_bias"),
        ("itm_head", "itm_head"),
    ],
)
def test_lost_weights_are_named_in_one_line(lost: str, message: str) -> None:
    state = without(published((2, 2, 2), SHAPES["image width no multiple of 64"]).published_state(), lost)
    with pytest.raises(ValueError, match=message) as error:
        load_published(state)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("visual.positional_embedding", (7, 64), "no class token and a square"),
        ("visual.conv1.weight", (64, 3, 16), "has the shape"),
        ("ln_final.weight", (63,), "of another shape"),
        ("token_embedding.weight", (300, 200), "200 channels do not divide into 3 heads"),
        ("vision_expert_0.ln_1.weight", (33,), "of different shapes"),
        ("surprise", (3,), "unexpected backbone.surprise"),
    ],
)
def test_other_shapes_are_refused_in_one_line(name: str, shape: tuple[int, ...], message: str) -> None:
    state = published((2, 1, 1)).published_state() | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=message) as error:
        load_published(state)
    assert "\n" not in str(error.value)
