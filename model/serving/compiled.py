"""The two towers compiled for a known set of shapes, and on CUDA recorded as graphs.

A batch is padded up to the next bucket: rows to a power of two, texts to a multiple of eight tokens. So the
number of shapes is bounded and known, and all of them have run before the first post comes. Padding is exact:
rows do not see one another, and the text tower is causal.

On CUDA every bucket is captured once with `torch.cuda.graph` and only replayed from then on: nothing is
compiled, guarded or allocated but the result. `torch.compile(mode="reduce-overhead")` would record graphs
too, but keeps them by thread (`torch/_inductor/cudagraph_trees.py`): every thread that calls records all of
them anew, with a memory pool of its own. Graphs captured here serve all threads.

Not yet run on a GPU: capture and replay. The rest runs on the CPU too, for tests alone: a ViT-B/32 in
bf16 compiled by inductor took 32 s of processor time to start and was no faster (1.00 ×, 0.97–1.05).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from model.serving.towers import Towers

Tower = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]
_LEAST_ROWS = 8  # fewer take a GPU no less time, and a size of 1 would be compiled apart
_LENGTH_STEP = 8
_WARM_UPS = 3  # calls before a capture: compiling, choosing cuBLAS' algorithms, its workspace


class CompileError(RuntimeError):
    """The towers cannot be compiled here (no Triton, no C++ compiler …), in one line."""


def row_buckets(most: int) -> tuple[int, ...]:
    """Powers of two from 8, and the most itself."""
    return (
        *(1 << bit for bit in range(_LEAST_ROWS.bit_length() - 1, most.bit_length()) if 1 << bit < most),
        most,
    )


def length_buckets(context: int) -> tuple[int, ...]:
    """Multiples of 8, and the context itself."""
    return (*range(_LENGTH_STEP, context, _LENGTH_STEP), context)


def text_buckets(rows: int, context: int, tokens: int | None = None) -> tuple[Shape, ...]:
    """All [rows, length] that a batch may be padded to.

    Args:
        rows: most texts in a batch.
        tokens: most padded tokens in a batch before it is padded further to its bucket; None for no limit.
    """
    shapes = []
    for length in length_buckets(context):
        shortest = max(1, length - _LENGTH_STEP + 1)
        shapes += [
            (count, length) for count in row_buckets(min(rows, max(1, (tokens or rows * length) // shortest)))
        ]
    return tuple(shapes)


class CompiledTowers:
    """Both towers compiled and warm; any thread may call them.

    A batch larger than every bucket goes through the plain tower. A result is the caller's own: no later
    call overwrites it. On CUDA the calls to a tower take turns on the device, whatever streams they come
    from; a call queues its work on the caller's current stream and does not wait for it.

    Args:
        towers: on their final device and in their final precision; not changed afterwards.
        image: one picture as it will come, without the batch; any values. Gives shape, dtype and device.
        context: most tokens of a text.
        rows: most pictures in a batch.
        text_rows: most texts in a batch; None for as many.
        tokens: most padded tokens in a batch of texts before it is padded to its bucket; None for no limit.
        prepare: what is done to pictures before the image tower, compiled with it, such as normalising uint8.
        backend: of `torch.compile`.
        dynamic: one compiled form with symbolic sizes for all buckets; else one a bucket: minutes more.

    Raises:
        CompileError: the backend does not work here.
    """

    def __init__(
        self,
        towers: Towers,
        *,
        image: Tensor,
        context: int,
        rows: int,
        text_rows: int | None = None,
        tokens: int | None = None,
        prepare: Tower | None = None,
        backend: str = "inductor",
        dynamic: bool = True,
    ) -> None:
        def image_features(batch: Tensor) -> Tensor:
            return towers.image_features(batch if prepare is None else prepare(batch))

        def text_features(batch: Tensor) -> Tensor:
            return towers.text_features(batch)

        self.precision = towers.precision
        ids = torch.zeros(0, dtype=torch.long, device=image.device)
        self.image_buckets = tuple((count, *image.shape) for count in row_buckets(rows))
        self.text_buckets = text_buckets(text_rows or rows, context, tokens)
        self._image = _compile(image_features, self.image_buckets, image, backend, (0,) if dynamic else ())
        self._text = _compile(text_features, self.text_buckets, ids, backend, (0, 1) if dynamic else ())

    def image_features(self, image: Tensor) -> Tensor:
        """Encode pictures. [B, …] as the example given -> [B, D] float."""
        return self._image(image)

    def text_features(self, text: Tensor) -> Tensor:
        """Encode texts. [B, L] int64 -> [B, D] float."""
        return self._text(text)


def _compile(
    tower: Tower, shapes: Sequence[Shape], like: Tensor, backend: str, dynamic: tuple[int, ...]
) -> Tower:
    """One compiled tower, warm.

    Args:
        like: any tensor of the inputs' dtype and device.
        dynamic: dimensions of the input whose size stays a symbol.
    """
    with torch.inference_mode(), _one_line_errors(), _many_shapes(len(shapes)):
        compiled = torch.compile(tower, backend=backend, fullgraph=True, dynamic=None if dynamic else False)
        run = _Replayed(compiled, like.device) if like.is_cuda else _Called(compiled)
        for shape in sorted(shapes, reverse=True):  # the largest first: the others fit in the memory it took
            run.add(shape, _marked(like.new_zeros(shape), dynamic))
    return _Bucketed(tower, run, shapes)


def _marked(batch: Tensor, dynamic: tuple[int, ...]) -> Tensor:
    for dimension in dynamic:
        torch._dynamo.maybe_mark_dynamic(batch, dimension)
    return batch


class _Called:
    """Buckets that are called: on the CPU."""

    def __init__(self, compiled: Tower) -> None:
        self._compiled = compiled

    def add(self, shape: Shape, batch: Tensor) -> None:
        self._compiled(batch)

    def __call__(self, batch: Tensor, shape: Shape) -> Tensor:
        return self._compiled(_padded(batch, batch.new_zeros(shape)))[: len(batch)]


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    batch: Tensor
    features: Tensor


class _Replayed:
    """Buckets that are replayed, one at a time: they share a memory pool; each has one place for its input.

    The turns are kept on the device: a call waits there for the event behind the last one's copies. The lock
    is held only while work is queued.
    """

    def __init__(self, compiled: Tower, device: torch.device) -> None:
        self._compiled, self._device = compiled, device
        with torch.cuda.device(device):
            # cuBLAS' workspace belongs to the stream and graphs keep its address: nothing else may run there
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
            self._free = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._graphs: dict[Shape, _Graph] = {}
        self._lock = threading.Lock()

    def add(self, shape: Shape, batch: Tensor) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())  # it fills the batch
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    self._compiled(batch)
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                features = self._compiled(batch)
            self._free.record(self._stream)
        self._graphs[shape] = _Graph(graph, batch, features)

    def __call__(self, batch: Tensor, shape: Shape) -> Tensor:
        bucket = self._graphs[shape]
        with self._lock, torch.cuda.device(self._device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self._free)
            _padded(batch, bucket.batch)
            bucket.graph.replay()
            features = bucket.features[: len(batch)].clone()  # the next replay writes over them
            self._free.record(stream)
        return features


class _Bucketed:
    """A tower that pads its batch to a bucket."""

    def __init__(self, tower: Tower, run: _Called | _Replayed, shapes: Sequence[Shape]) -> None:
        self._plain, self._run = tower, run
        self._shapes = sorted(shapes, key=lambda shape: (math.prod(shape), shape))

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        for shape in self._shapes:
            if all(size <= room for size, room in zip(batch.shape, shape, strict=True)):
                return self._run(batch, shape)
        return self._plain(batch)


def _padded(batch: Tensor, place: Tensor) -> Tensor:
    """Write a batch into the corner of a place; what stands in its other rows is never read."""
    if place.shape[1:] != batch.shape[1:]:
        place.zero_()
    place[tuple(map(slice, batch.shape))].copy_(batch)
    return place


@contextmanager
def _many_shapes(count: int) -> Iterator[None]:
    """Let a tower be compiled for all its buckets, and for those of other models in this process."""
    room = torch._dynamo.config.recompile_limit + 2 * count
    with torch._dynamo.config.patch(recompile_limit=room, accumulated_recompile_limit=64 * room):
        yield


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as exc:
        line = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
        raise CompileError(f"the towers cannot be compiled here: {line[:300]}") from exc
