"""The folded experts against the plain form, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.experts import ExpertGroup
from tests.reference import expert_rows


@pytest.fixture
def group() -> ExpertGroup:
    torch.manual_seed(0)
    experts = ExpertGroup(3, 16).double()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experts


def _inputs(masked: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    torch.manual_seed(1)
    rows = torch.randn(4, 2, 16, dtype=torch.float64, requires_grad=True)
    context = torch.randn(4, 9, 16, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(9) < torch.tensor([1, 4, 9, 6]).unsqueeze(1) if masked else None
    return rows, context, mask


@pytest.mark.parametrize("masked", [False, True])
def test_folded_experts_equal_the_full_rows(group: ExpertGroup, masked: bool) -> None:
    rows, context, mask = _inputs(masked)
    plain = torch.stack([expert_rows(group, e, rows, context, mask) for e in range(3)], dim=2)
    torch.testing.assert_close(group(rows, context, mask), plain, atol=1e-9, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_folded_experts_have_the_full_rows_gradients(group: ExpertGroup, masked: bool) -> None:
    rows, context, mask = _inputs(masked)
    inputs = [rows, context, *group.parameters()]
    weight = torch.randn(4, 2, 3, 16, dtype=torch.float64)
    plain = torch.stack([expert_rows(group, e, rows, context, mask) for e in range(3)], dim=2)
    expected = torch.autograd.grad((plain * weight).sum(), inputs)
    actual = torch.autograd.grad((group(rows, context, mask) * weight).sum(), inputs)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_masked_tokens_have_no_influence(group: ExpertGroup) -> None:
    rows, context, mask = _inputs(masked=True)
    assert mask is not None
    changed = torch.where(mask.unsqueeze(-1), context, torch.full_like(context, 7.0))
    torch.testing.assert_close(group(rows, context, mask), group(rows, changed, mask), atol=1e-12, rtol=0)


def test_a_group_may_be_empty() -> None:
    assert ExpertGroup(0, 16)(torch.randn(2, 1, 16), torch.randn(2, 5, 16)).shape == (2, 1, 0, 16)
