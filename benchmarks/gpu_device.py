"""What the device alone does: the peak of its matrix products, and posts from inputs that lie there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.backbone import build_backbone
from model.config import ArchitectureConfig, PreprocessConfig
from model.serving.compiled import CompiledTowers, Tower
from model.serving.towers import DTYPES, Precision, ServingTowers, Towers

Layout = Literal["channels_last", "contiguous"]
LAYOUTS: tuple[Layout, ...] = ("channels_last", "contiguous")


@dataclass(frozen=True, slots=True)
class Texts:
    """How long the texts of a post are, SOT and EOT included."""

    caption: int = 24
    explanation: int = 40


@dataclass(frozen=True, slots=True)
class Inputs:
    """Posts on the device: image [B, S, S, 3] uint8, caption and explanation [B, L] int64."""

    image: Tensor
    caption: Tensor
    explanation: Tensor


def seconds_of(work: Callable[[], object], device: torch.device, *, for_s: float) -> float:
    """Median time of a call, by events on CUDA, seconds.

    Args:
        for_s: calls are repeated for about so long, at least three times, after one that is not timed.
    """
    work()
    times: list[float] = []
    end = time.monotonic() + for_s
    while len(times) < 3 or time.monotonic() < end:
        times.append(_on_cuda(work, device) if device.type == "cuda" else _on_cpu(work))
    return statistics.median(times)


def _on_cpu(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _on_cuda(work: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        work()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000


@torch.inference_mode()
def matmul_peak(device: torch.device, precision: Precision, side: int, *, for_s: float = 2.0) -> float:
    """Floating-point operations a second of a large square matrix product of random numbers."""
    dtype = DTYPES[precision]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds_of(lambda: torch.mm(left, right, out=out), device, for_s=for_s)


def random_inputs(config: ArchitectureConfig, count: int, texts: Texts, device: torch.device) -> Inputs:
    """Noise pictures and texts of exactly the given lengths."""
    side, text = config.vision.image_size, config.text

    def ids(length: int) -> Tensor:
        rows = torch.randint(1, text.vocab_size - 2, (count, length), device=device)
        rows[:, -1] = text.vocab_size - 1
        return rows

    image = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=device)
    return Inputs(image, ids(texts.caption), ids(texts.explanation))


def preparing(preprocess: PreprocessConfig, device: torch.device, layout: Layout = "channels_last") -> Tower:
    """What brings pixels to the image tower: [B, S, S, 3] uint8 to [B, 3, S, S] float32, normalised."""
    mean = 255 * torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)

    def prepare(pixels: Tensor) -> Tensor:
        image = (pixels.permute(0, 3, 1, 2).float() - mean) / std  # laid out as the pixels are
        return image if layout == "channels_last" else image.contiguous()

    return prepare


class Prepared:
    """Towers that take pixels."""

    def __init__(self, towers: Towers, prepare: Tower) -> None:
        self._towers, self._prepare = towers, prepare
        self.precision = towers.precision

    def image_features(self, image: Tensor) -> Tensor:
        return self._towers.image_features(self._prepare(image))

    def text_features(self, text: Tensor) -> Tensor:
        return self._towers.text_features(text)


def flops_a_post(config: ArchitectureConfig, texts: Texts) -> int:
    """Operations that the serving towers carry out for one post, as torch counts them without weights."""
    meta = torch.device("meta")
    with meta, torch.inference_mode():
        backbone = build_backbone(config).eval()
        towers = Prepared(ServingTowers(backbone), preparing(PreprocessConfig(), meta))
        with FlopCounterMode(display=False) as counter:
            encode(towers, random_inputs(config, 1, texts, meta))
    return int(counter.get_total_flops())


def encode(towers: Towers, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Both texts and the picture of each post, as the encoder runs them: texts of one length together."""
    image = towers.image_features(inputs.image)
    return image, towers.text_features(inputs.caption), towers.text_features(inputs.explanation)


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """Posts a second of one way to encode them.

    Args:
        peak_bytes: most memory that PyTorch held on the GPU; None on the CPU.
    """

    way: str
    layout: Layout
    batch: int
    posts_a_second: float
    peak_bytes: int | None


@torch.inference_mode()
def measure(
    way: str,
    towers: Towers,
    layout: Layout,
    batches: list[Inputs],
    device: torch.device,
    *,
    for_s: float,
) -> Iterator[DeviceRow]:
    """Time one way at each batch size, smallest first; a size that does not fit the memory ends it."""
    for inputs in batches:
        count = len(inputs.image)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            seconds = seconds_of(lambda inputs=inputs: encode(towers, inputs), device, for_s=for_s)  # type: ignore[misc]
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        yield DeviceRow(way, layout, count, count / seconds, peak)


def compiled(
    towers: Towers,
    prepare: Tower,
    config: ArchitectureConfig,
    texts: Texts,
    rows: int,
    backend: str,
    device: torch.device,
) -> tuple[CompiledTowers, float]:
    """Compile for these posts; gives the seconds that it took as well."""
    started = time.perf_counter()
    side = config.vision.image_size
    image = torch.zeros(side, side, 3, dtype=torch.uint8, device=device)
    result = CompiledTowers(
        towers,
        image=image,
        context=max(texts.caption, texts.explanation),
        rows=rows,
        prepare=prepare,
        backend=backend,
    )
    return result, time.perf_counter() - started
