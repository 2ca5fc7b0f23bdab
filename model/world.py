"""The processes of one training run: who this one is, and what they exchange.

Every rank holds B/W rows of a global batch of B. Its loss L_r is such that the global loss is the mean of all
L_r; gradients are averaged over ranks. What is gathered keeps its gradient, so that the averaged gradients
are exactly those of the global loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(hours=12)  # the others wait while the first rank prepares, validates and saves
_BUCKET_BYTES = 64 << 20


class PeerLost(RuntimeError):
    """Another process of the run has ended, and its own message says why; this one cannot go on alone."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of its run; the default is a run of one process.

    Args:
        rank: from 0; the first one writes, validates and logs.
        size: W, how many there are.
        local_rank: from 0 on this machine; the index of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks, in their order, with gradients. [B/W, …] -> [B, …]."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    @torch.no_grad()
    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, without gradients."""
        total = values.detach().clone()
        if self.size > 1:
            with _exchange():
                distributed.all_reduce(total)
        return total

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over ranks, many small ones in one message."""
        if self.size == 1:
            return
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            with _exchange():
                distributed.all_reduce(flat)
            flat /= self.size
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def share(self, value: Any) -> Any:
        """The first rank's value, on every rank; plain Python data."""
        if self.size == 1:
            return value
        box = [value]
        with _exchange():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    @torch.no_grad()
    def copy_from_first(self, module: nn.Module) -> None:
        """Give every rank the first one's weights."""
        if self.size == 1:
            return
        with _exchange():
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Return when all ranks are here."""
        self.share(None)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first rank goes ahead, then the first of every machine, then all: for caches that one fills."""
        turn = 0 if self.is_first else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.wait()
        yield
        for _ in range(2 - turn):
            self.wait()


@contextmanager
def _exchange() -> Iterator[None]:
    """Say what a broken connection means; what the backend says of it is about sockets."""
    try:
        yield
    except RuntimeError as exc:
        raise PeerLost("another process of this run has ended, so this one ends too") from exc


class _Gather(torch.autograd.Function):
    """All-gather; backward sums over ranks what each of them wants of a row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world = world
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world.size)]
        with _exchange():
            distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        world: World = ctx.world
        total = gradients[0].contiguous().clone()
        with _exchange():
            distributed.all_reduce(total)  # gloo has no reduce-scatter
        return total.chunk(world.size)[world.rank], None


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive gradients of one type, each group at most `_BUCKET_BYTES` unless a single one is larger."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > _BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


@contextmanager
def open_world(device: str) -> Iterator[tuple[World, str]]:
    """Join the run that `torchrun` started; without it, a run of one process.

    Args:
        device: torch device name; `cuda` becomes this process's GPU.

    Yields:
        The run's world and this process's device.

    Raises:
        ValueError: more processes on this machine than GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield World(), device
        return
    world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        if world.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {world.local_rank} of this machine has no GPU: "
                f"torchrun --nproc-per-node must be at most {torch.cuda.device_count()}"
            )
        device = f"cuda:{world.local_rank}"
        torch.cuda.set_device(world.local_rank)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield world, device
    finally:
        distributed.destroy_process_group()
