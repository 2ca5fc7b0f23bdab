"""Two real processes over gloo give the loss and the gradients of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from model.losses.matching import HardNegatives
from model.training.gradients import loss_and_gradients
from model.world import World
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

_PROCESSES = 2
_EACH = ROWS // _PROCESSES
_MICRO_BATCHES = (0, 3)


def _rank_main(rank: int, folder: str) -> None:
    """One process: its half of the batch through every case; what it found is written to the folder."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=_PROCESSES
    )
    world = World(rank, _PROCESSES, rank)
    rows = slice(rank * _EACH, (rank + 1) * _EACH)
    everywhere = negatives_within(_EACH)
    own = HardNegatives(
        everywhere.image[rows] - rows.start,
        everywhere.text[rows] - rows.start,
        everywhere.image_valid[rows],
        everywhere.text_valid[rows],
    )
    found = {}
    for name, weights in CASES.items():
        for micro_batch in _MICRO_BATCHES:
            model = tiny_model()
            parts = loss_and_gradients(
                model, tiny_batch()[rows], weights, micro_batch=micro_batch, negatives=own, world=world
            )
            found[name, micro_batch] = (parts.total, gradients(model))
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, int], Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        spawn(_rank_main, args=(str(folder),), nprocs=_PROCESSES)  # type: ignore[no-untyped-call]
    return [_load(folder / f"rank{rank}.pt") for rank in range(_PROCESSES)]


def _load(path: Path) -> dict[tuple[str, int], Any]:
    found: dict[tuple[str, int], Any] = torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize("micro_batch", _MICRO_BATCHES)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_loss_and_gradients_of_one(
    ranks: list[dict[tuple[str, int], Any]], case: str, micro_batch: int
) -> None:
    model = tiny_model()
    expected = big_batch(model, CASES[case], negatives_within(_EACH))
    for rank in ranks:
        total, ours = rank[case, micro_batch]
        assert total.item() == pytest.approx(expected.total.item(), abs=1e-6)
        assert_same(ours, gradients(model))


def test_a_process_that_knew_only_its_own_rows_would_have_another_loss() -> None:
    halves = [tiny_batch()[:_EACH], tiny_batch()[_EACH:]]
    plain = CASES["plain CLIP"]
    apart = [loss_and_gradients(tiny_model(), half, plain).total for half in halves]
    together = loss_and_gradients(tiny_model(), tiny_batch(), plain).total
    assert abs(float(sum(apart)) / 2 - float(together)) > 0.1


def test_duplicates_are_seen_across_processes(ranks: list[dict[tuple[str, int], Any]]) -> None:
    batch = tiny_batch()
    distinct = replace(batch, image_group=torch.arange(ROWS))  # rows 0 and 5 are of different processes
    unmasked = loss_and_gradients(tiny_model(), distinct, CASES["plain CLIP"]).total
    assert abs(float(ranks[0]["plain CLIP", 0][0]) - float(unmasked)) > 1e-3
