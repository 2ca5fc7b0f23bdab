"""The naive form of the published step: equal to the published numbers, and ours equal to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.losses.matching import HardNegatives, matching_logits
from model.losses.total import LossWeights, entityclip_loss
from model.sources.published import load_published
from tests.parity.test_published_forward import PARITY_FILE
from worker.bench.published import (
    PublishedEntityClip,
    PublishedLoss,
    Tokens,
    published_loss,
    published_names,
)

TOWERS = (
    VisionConfig(image_size=64, patch_size=16, width=128, layers=2),
    TextConfig(width=64, heads=1, layers=2, vocab_size=600),
)
OTHER_TOWERS = (
    VisionConfig(image_size=32, patch_size=8, width=64, layers=3),
    TextConfig(width=128, heads=2, layers=1, vocab_size=300, context_length=40),
)


def architecture(experts: tuple[int, int, int], *, other: bool = True, width: int = 48) -> ArchitectureConfig:
    vision, text = OTHER_TOWERS if other else TOWERS
    return ArchitectureConfig(width, vision, text, ExpertConfig(*experts, attend_padding=True))


@dataclass(frozen=True)
class Batch:
    """Seven random triples and their negatives, one of them a text that is two rows' negative."""

    image: Tensor
    text: Tensor
    explanation: Tensor
    wrong_image: Tensor
    wrong_text: Tensor


@pytest.mark.skipif(not PARITY_FILE.exists(), reason=f"no {PARITY_FILE}; set ENTITYCLIP_PARITY to it")
def test_reference_gives_the_published_numbers() -> None:
    with safe_open(PARITY_FILE, "pt") as file:
        numbers = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    model = PublishedEntityClip(architecture((4, 4, 4), other=False, width=64))
    model.load_published_state(_below(numbers, "weights."))
    with torch.no_grad():
        tokens = model.encode(numbers["in.image"], numbers["in.text"], numbers["in.explanation"])
        loss = published_loss(
            model, tokens, numbers["in.negative_image_index"], numbers["in.negative_text_index"]
        )
        computed = _published_outputs(model, tokens, loss)
    expected = _below(numbers, "out.")
    assert set(computed) == set(expected)
    for name, value in expected.items():
        tolerance = 1e-5 if name.startswith("loss") else 1e-4 * float(value.abs().max())
        torch.testing.assert_close(computed[name], value, atol=tolerance, rtol=0, msg=name)


def _published_outputs(model: PublishedEntityClip, tokens: Tokens, loss: PublishedLoss) -> dict[str, Tensor]:
    image_fused, text_fused = model.fused(tokens)
    return {
        "image_tokens": tokens.image,
        "text_tokens": tokens.text,
        "explanation_tokens": tokens.explanation,
        "main_logits_per_image": model.pair_logits(*tokens.rows()),
        "image_fused": image_fused,
        "text_fused": text_fused,
        "aux_logits_per_image": model.pair_logits(image_fused, text_fused),
        "itm_fused": model.matching(tokens)[1],
        "itm_logits_positive": loss.positive,
        "itm_logits_negative_text": loss.wrong_text,
        "itm_logits_negative_image": loss.wrong_image,
        "loss_contrastive": loss.contrastive,
        "loss_auxiliary": loss.auxiliary,
        "loss_itm": loss.matching,
        "loss_total": loss.total,
    }


@pytest.mark.parametrize("experts", [(2, 3, 1), (1, 1, 4), (3, 1, 2), (0, 2, 1)], ids=str)
def test_values_and_gradients_equal_the_reference_in_float64(experts: tuple[int, int, int]) -> None:
    reference, ours = _models(experts)
    batch = _batch(reference)
    tokens = reference.encode(batch.image, batch.text, batch.explanation)
    loss = published_loss(reference, tokens, batch.wrong_image, batch.wrong_text)
    theirs = [*reference.fused(tokens), loss.positive, loss.wrong_text, loss.wrong_image]
    output = ours(batch.image, batch.text, batch.explanation)
    own = [output.fused_image_features, output.fused_text_features]
    own += matching_logits(ours, output, _negatives(batch))
    for value, expected in zip(own, theirs, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-9, rtol=0)
    torch.manual_seed(3)
    weights = [torch.randn_like(value) for value in theirs]
    torch.autograd.backward(theirs, weights)
    torch.autograd.backward(own, weights)
    _assert_gradients_equal(ours, _our_gradients(reference, experts), tolerance=1e-9)


def test_loss_and_its_gradients_equal_the_reference() -> None:
    experts = (2, 3, 1)
    reference, ours = _models(experts)
    batch = _batch(reference)
    tokens = reference.encode(batch.image, batch.text, batch.explanation)
    expected = published_loss(reference, tokens, batch.wrong_image, batch.wrong_text).total
    output = ours(batch.image, batch.text, batch.explanation)
    total = entityclip_loss(ours, output, weights=LossWeights(), negatives=_negatives(batch)).total
    torch.testing.assert_close(total.double(), expected, atol=1e-6, rtol=0)
    expected.backward()  # type: ignore[no-untyped-call]
    total.backward()  # type: ignore[no-untyped-call]
    _assert_gradients_equal(ours, _our_gradients(reference, experts), tolerance=1e-6)


def _models(experts: tuple[int, int, int]) -> tuple[PublishedEntityClip, EntityClip]:
    """The same random weights in both forms, float64."""
    torch.manual_seed(0)
    reference = PublishedEntityClip(architecture(experts))
    for name, parameter in reference.named_parameters():
        if not name.startswith("backbone."):
            torch.nn.init.normal_(parameter, std=0.2)
    ours = load_published(reference.published_state(), "".join(map(str, experts)))
    return reference.double(), ours.double()


def _batch(model: PublishedEntityClip) -> Batch:
    length = model.backbone.context_length
    ids = torch.randint(1, 298, (14, length))
    for row, end in enumerate(torch.randint(2, length, (14,)).tolist()):
        ids[row, end], ids[row, end + 1 :] = 299, 0
    return Batch(
        image=torch.randn(7, 3, 32, 32, dtype=torch.float64),
        text=ids[:7],
        explanation=ids[7:],
        wrong_image=torch.tensor([3, 0, 1, 2, 6, 4, 5]),
        wrong_text=torch.tensor([1, 0, 0, 6, 5, 4, 3]),
    )


def _negatives(batch: Batch) -> HardNegatives:
    every = torch.ones(len(batch.text), dtype=torch.bool)
    return HardNegatives(batch.wrong_image, batch.wrong_text, every, every)


def _our_gradients(reference: PublishedEntityClip, experts: tuple[int, int, int]) -> dict[str, Tensor]:
    """The reference's gradients under our names.

    The published loader does the renaming. It works in float32, so gradients go through it in two parts.
    """
    parts = []
    for low in (False, True):
        gradients = {
            name: _gradient(p) - _gradient(p).float() if low else _gradient(p).float()
            for name, p in reference.named_parameters()
        }
        model = load_published(published_names(gradients.items()), "".join(map(str, experts)))
        parts.append(dict(model.named_parameters()))
    return {name: (parts[0][name].double() + parts[1][name].double()).detach() for name in parts[0]}


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _assert_gradients_equal(ours: EntityClip, expected: Mapping[str, Tensor], *, tolerance: float) -> None:
    for name, parameter in ours.named_parameters():
        largest = float(expected[name].abs().max()) if parameter.numel() else 0.0  # a group may be empty
        limit = tolerance * max(1.0, largest)
        torch.testing.assert_close(_gradient(parameter), expected[name], atol=limit, rtol=0, msg=name)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
