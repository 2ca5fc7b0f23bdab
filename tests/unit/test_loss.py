"""The loss against its plain form, and the faults of the published code that ours does not have."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from model.losses.contrastive import contrastive_loss, duplicate_mask
from model.losses.matching import HardNegatives, hard_negatives, matching_logits
from model.losses.total import LossWeights, entityclip_loss
from tests import reference
from tests.unit.test_entityclip import build, texts


def test_contrastive_loss_equals_the_plain_loop() -> None:
    torch.manual_seed(0)
    image, text = (functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    duplicates = duplicate_mask(torch.tensor([0, 1, 2, 0, 4, 5]), torch.tensor([0, 1, 2, 3, 1, 5]))
    ours = contrastive_loss(image, text, torch.tensor(10.0), duplicates)
    assert ours.item() == pytest.approx(reference.contrastive_loss(image, text, 10.0, duplicates), abs=1e-5)


def test_contrastive_loss_refuses_different_batch_sizes() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        contrastive_loss(torch.ones(3, 8), torch.ones(4, 8), torch.tensor(1.0))


def test_duplicates_share_an_image_or_a_caption() -> None:
    mask = duplicate_mask(torch.tensor([0, 0, 1]), torch.tensor([5, 6, 6]))
    assert mask.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_a_positive_is_never_its_own_negative() -> None:
    logits = torch.full((5, 5), -20.0).fill_diagonal_(50.0)
    for seed in range(50):
        drawn = hard_negatives(logits, torch.Generator().manual_seed(seed))
        assert not (drawn.image == torch.arange(5)).any()
        assert not (drawn.text == torch.arange(5)).any()


def test_harder_negatives_are_drawn_more_often() -> None:
    logits = torch.zeros(4, 4)
    logits[0, 2] = 3.0  # image 0 looks like text 2
    counts = [0, 0, 0, 0]
    for seed in range(300):
        counts[int(hard_negatives(logits, torch.Generator().manual_seed(seed)).text[0])] += 1
    assert counts[2] > 200


def test_a_row_without_negatives_is_left_out() -> None:
    logits = torch.zeros(3, 3)
    logits[0] = -torch.inf  # image 0 has no text that could be a negative
    drawn = hard_negatives(logits)
    assert drawn.text_valid.tolist() == [False, True, True]


def test_a_pair_without_a_score_is_never_drawn() -> None:
    logits = torch.zeros(4, 4)
    logits[1], logits[:, 2] = torch.nan, torch.nan  # image 1 and text 2 have no finite vector
    for seed in range(20):
        drawn = hard_negatives(logits, torch.Generator().manual_seed(seed))
        assert drawn.text_valid.tolist() == [True, False, True, True]
        assert drawn.image_valid.tolist() == [True, True, False, True]
        assert not (drawn.text[drawn.text_valid] == 2).any()
        assert not (drawn.image[drawn.image_valid] == 1).any()


def test_wrong_text_is_pooled_at_its_own_eot() -> None:
    model, ids, image = build(attend_padding=False), texts(4), torch.randn(4, 3, 32, 32)
    order = torch.tensor([1, 2, 3, 0])
    every = torch.ones(4, dtype=torch.bool)
    with torch.no_grad():
        output = model(image, ids, ids)
        _, wrong_text, wrong_image = matching_logits(model, output, HardNegatives(order, order, every, every))
        swapped_text = model(image, ids[order], ids[order])
        swapped_image = model(image[order], ids, ids)
    for ours, swapped in ((wrong_text, swapped_text), (wrong_image, swapped_image)):
        row = swapped.text_tokens[torch.arange(4), swapped.text_eot]
        expected, _ = model.match(swapped.image_tokens[:, 0], row, swapped.experts)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_matching_gradients_reach_the_towers_through_the_negatives() -> None:
    model, ids, image = build(attend_padding=False), texts(4), torch.randn(4, 3, 32, 32)
    every = torch.ones(4, dtype=torch.bool)
    order = torch.tensor([1, 2, 3, 0])
    output = model(image, ids, ids)
    _, wrong_text, _ = matching_logits(model, output, HardNegatives(order, order, every, every))
    (gradient,) = torch.autograd.grad(wrong_text[0].sum(), output.text_tokens)
    assert gradient[1].abs().sum() > 0
    assert gradient[2].abs().sum() == 0


def test_terms_are_weighted_and_can_be_switched_off() -> None:
    model, ids, image = build(attend_padding=False), texts(4), torch.randn(4, 3, 32, 32)
    output = model(image, ids, ids)
    draw = torch.Generator().manual_seed(0)
    parts = entityclip_loss(model, output, weights=LossWeights(0.3, 0.2), generator=draw)
    total = parts.contrastive + 0.3 * parts.auxiliary + 0.2 * parts.matching
    assert parts.total.item() == pytest.approx(total.item())
    plain = entityclip_loss(model, output, weights=LossWeights(0.0, 0.0))
    assert plain.total.item() == pytest.approx(parts.contrastive.item())
