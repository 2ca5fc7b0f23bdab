"""Batches in chunks: the gradients of the whole batch; checkpointed towers: the gradients of plain ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from model.losses import pairwise
from model.losses.pair_rows import PairRows
from model.losses.total import LossParts
from model.training.gradients import loss_and_gradients
from tests.unit.training_batches import (
    CASES,
    ROWS,
    assert_same,
    big_batch,
    gradients,
    negatives_within,
    tiny_batch,
    tiny_model,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower with several, and very slow where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _terms(parts: LossParts) -> list[float]:
    return [term.item() for term in (parts.contrastive, parts.auxiliary, parts.matching, parts.total)]


@pytest.mark.parametrize("micro_batch", [0, 1, 3, 4, ROWS])
@pytest.mark.parametrize("case", CASES)
def test_chunks_give_the_loss_and_gradients_of_the_whole_batch(case: str, micro_batch: int) -> None:
    expected_model, model = tiny_model(), tiny_model()
    expected = big_batch(expected_model, CASES[case], negatives_within(ROWS))
    parts = loss_and_gradients(
        model, tiny_batch(), CASES[case], micro_batch=micro_batch, negatives=negatives_within(ROWS)
    )
    assert _terms(parts) == pytest.approx(_terms(expected), abs=1e-9)
    assert_same(gradients(model), gradients(expected_model))


def test_chunks_draw_the_negatives_of_the_whole_batch() -> None:
    weights = CASES["whole loss"]
    losses = [
        loss_and_gradients(
            tiny_model(),
            tiny_batch(),
            weights,
            micro_batch=micro_batch,
            generator=torch.Generator().manual_seed(7),
        ).matching
        for micro_batch in (0, 3)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-9)


def test_chunks_work_in_half_precision() -> None:
    model, reference = tiny_model().float(), tiny_model().float()
    batch = tiny_batch()
    image = batch.image.float()
    batch = type(batch)(image, batch.text, batch.explanation, batch.image_group, batch.text_group)
    for each, micro_batch in ((model, 3), (reference, 0)):
        loss_and_gradients(
            each,
            batch,
            CASES["whole loss"],
            micro_batch=micro_batch,
            negatives=negatives_within(ROWS),
            autocast=lambda: torch.autocast("cpu", torch.bfloat16),
        )
    ours, expected = gradients(model), gradients(reference)
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        error = float((ours[name] - gradient).norm())
        assert error <= 0.05 * float(gradient.norm()) + 1e-6, name


def test_a_locked_image_tower_has_no_gradients_and_changes_none_of_the_others() -> None:
    locked, free = tiny_model(), tiny_model()
    locked.backbone.visual.requires_grad_(False)
    for model in (locked, free):
        loss_and_gradients(
            model, tiny_batch(), CASES["whole loss"], micro_batch=3, negatives=negatives_within(ROWS)
        )
    others = {name: g for name, g in gradients(free).items() if not name.startswith("backbone.visual")}
    assert_same(gradients(locked), others)


def test_checkpointed_towers_give_the_same_gradients() -> None:
    plain, checkpointed = tiny_model(), tiny_model()
    checkpointed.backbone.set_grad_checkpointing(True)
    for model in (plain, checkpointed):
        model.train()
        loss_and_gradients(model, tiny_batch(), CASES["whole loss"], negatives=negatives_within(ROWS))
    assert_same(gradients(checkpointed), gradients(plain))


def test_pairwise_scores_of_half_precision_towers_are_not_rounded() -> None:
    model = tiny_model().float()
    with torch.no_grad():
        model.backbone.logit_scale.fill_(4.6)  # a hundred times the rounding of a cosine
    batch = tiny_batch()
    half = torch.autocast("cpu", torch.bfloat16)
    with torch.no_grad(), half:
        rows = PairRows.of(model(batch.image.float(), batch.text, batch.explanation))
        ours = pairwise.pairwise_auxiliary_loss(model, rows)
        explained = rows.need_explained()
        fused = pairwise.fused_under(
            model, rows.image, explained.experts.image, explained.tokens, explained.eot
        )
    logits = model.logit_scale() * (fused.double() * explained.fused_text.double().unsqueeze(1)).sum(dim=-1)
    own = torch.arange(ROWS)
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    assert ours.item() == pytest.approx(expected.item(), abs=1e-4)


def test_pairwise_scores_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = CASES["pairwise auxiliary negatives"]
    whole, parted = tiny_model(), tiny_model()
    loss_and_gradients(whole, tiny_batch(), weights, negatives=negatives_within(ROWS))
    monkeypatch.setattr(pairwise, "_PAIRS_AT_ONCE", 3 * ROWS)
    loss_and_gradients(parted, tiny_batch(), weights, negatives=negatives_within(ROWS))
    assert_same(gradients(parted), gradients(whole))
