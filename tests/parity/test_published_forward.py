"""The published forward pass, to the number (`../shared/parity`, or ENTITYCLIP_PARITY)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from model.entityclip import EntityClip
from model.losses.contrastive import contrastive_loss
from model.losses.matching import HardNegatives, matching_logits, matching_loss
from model.sources.published import load_published

_DEFAULT = Path(__file__).parents[2].parent / "shared" / "parity" / "published_forward.safetensors"
PARITY_FILE = Path(os.environ.get("ENTITYCLIP_PARITY", _DEFAULT))

pytestmark = pytest.mark.skipif(
    not PARITY_FILE.exists(), reason=f"no {PARITY_FILE}; set ENTITYCLIP_PARITY to the published numbers"
)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    with safe_open(PARITY_FILE, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


@pytest.fixture(scope="module")
def model(numbers: dict[str, Tensor]) -> EntityClip:
    with safe_open(PARITY_FILE, "pt") as file:
        experts = file.metadata()["expert_config"]
    weights = {name.removeprefix("weights."): t for name, t in numbers.items() if name.startswith("weights.")}
    return load_published(weights, experts)


@pytest.fixture(scope="module")
def computed(model: EntityClip, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        out = model(numbers["in.image"], numbers["in.text"], numbers["in.explanation"])
        count = len(out.text_eot)
        every = torch.ones(count, dtype=torch.bool)
        negatives = HardNegatives(
            numbers["in.negative_image_index"], numbers["in.negative_text_index"], every, every
        )
        positive, wrong_text, wrong_image = matching_logits(model, out, negatives)
        text_row = out.text_tokens[torch.arange(count), out.text_eot]
        contrastive = contrastive_loss(out.image_features, out.text_features, out.logit_scale)
        auxiliary = contrastive_loss(out.fused_image_features, out.fused_text_features, out.logit_scale)
        itm = matching_loss(model, out, negatives)
        return {
            "image_tokens": out.image_tokens,
            "text_tokens": out.text_tokens,
            "explanation_tokens": out.explanation_tokens,
            "main_logits_per_image": out.logit_scale * out.image_features @ out.text_features.T,
            "image_fused": out.fused_image_features,
            "text_fused": out.fused_text_features,
            "aux_logits_per_image": out.logit_scale * out.fused_image_features @ out.fused_text_features.T,
            "itm_fused": model.match(out.image_tokens[:, 0], text_row, out.experts)[1],
            "itm_logits_positive": positive,
            "itm_logits_negative_text": wrong_text,
            "itm_logits_negative_image": wrong_image,
            "loss_contrastive": contrastive,
            "loss_auxiliary": auxiliary,
            "loss_itm": itm,
            "loss_total": contrastive + 0.1 * auxiliary + 0.1 * itm,
        }


def test_every_published_number_is_computed(numbers: dict[str, Tensor], computed: dict[str, Tensor]) -> None:
    published = {name.removeprefix("out.") for name in numbers if name.startswith("out.")}
    assert published == set(computed)


def test_outputs_equal_the_published_ones(numbers: dict[str, Tensor], computed: dict[str, Tensor]) -> None:
    for name, value in computed.items():
        expected = numbers[f"out.{name}"]
        tolerance = 1e-5 if name.startswith("loss") else 1e-4 * float(expected.abs().max())
        difference = float((value - expected).abs().max())
        assert difference <= tolerance, f"{name} differs by {difference}, allowed {tolerance}"


def test_itm_logits_from_full_tokens_equal_the_positive_ones(
    model: EntityClip, computed: dict[str, Tensor], numbers: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        logits = model.itm_logits(
            computed["image_tokens"],
            computed["text_tokens"],
            computed["explanation_tokens"],
            numbers["in.text"].argmax(dim=-1),
        )
    torch.testing.assert_close(logits, numbers["out.itm_logits_positive"], atol=1e-4, rtol=1e-4)
