"""What encoding reaches on a GPU: the device alone, decoding alone, and both from JPEG bytes to vectors.

    python -m benchmarks.gpu_encoding --device cuda --json gpu.json
    python -m benchmarks.gpu_encoding --device cpu --small

Run from the root of the repository; minutes on a GPU, under one with `--small`. Random weights: the rates do
not depend on them. The peak is that of a large square matrix product in the same precision, measured in the
same run; the operations of a post are counted by torch's FlopCounterMode on the towers that serve, which
leave out what nobody reads. Device only: pixels and token ids lie on the device, features stay there. End to
end: JPEG bytes and two texts of the given tokens become numpy vectors. Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu_decode import DeviceDecoder, device_decoding, draw_jpegs, pool_rate
from benchmarks.gpu_device import (
    LAYOUTS,
    Inputs,
    Prepared,
    Texts,
    compiled,
    encode,
    flops_a_post,
    matmul_peak,
    measure,
    preparing,
    random_inputs,
)
from benchmarks.gpu_report import EndToEnd, ModelRun, PoolRate, tables, verdicts
from model import backbone
from model.config import ArchitectureConfig, ExpertConfig, PreprocessConfig
from model.device import choose_device
from model.entityclip import EntityClip
from model.serving.compiled import CompileError
from model.serving.encoder import BatchLimits, Encoder
from model.serving.stream import RawPost, encode_stream
from model.serving.towers import DTYPES, Precision, ServingTowers, Towers
from model.sources.openclip_config import read_architecture
from worker.bench.machine import this_machine

_WORDS = [
    "people",
    "street",
    "flag",
    "city",
    "water",
    "night",
    "crowd",
    "blue",
    "white",
    "green",
    "station",
    "market",
    "river",
    "team",
    "house",
    "music",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Args:
        batches: posts in a batch, device only; the last is also the batch end to end.
        threads: of the decode pool, each number by itself; the last is also used end to end.
        matmul_side: of the square matrix product that gives the peak.
        posts: end to end.
        pictures: drawn ones, decoded again and again.
        for_s: how long one number is measured.
        backend: of torch.compile; `eager` takes the compiler's place where seconds count.
    """

    precision: Precision
    texts: Texts
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    matmul_side: int
    posts: int
    pictures: int
    for_s: float
    backend: str


class Modules:
    """open_clip's own modules, cast as a whole: what `precision="pure_bf16"` gives its users."""

    def __init__(self, model: EntityClip, precision: Precision) -> None:
        self.precision, self._dtype = precision, DTYPES[precision]
        self._backbone = copy.deepcopy(model.backbone).to(self._dtype)

    def image_features(self, image: Tensor) -> Tensor:
        return backbone.image_features(self._backbone, image.to(self._dtype))

    def text_features(self, text: Tensor) -> Tensor:
        return backbone.text_features(self._backbone, text)


def architecture(name: str) -> ArchitectureConfig:
    """One of open_clip's; the experts are as few as can be, since no encoder runs them.

    Raises:
        ValueError: there is none of this name, or EntityCLIP cannot use it.
    """
    return read_architecture(open_clip.get_model_config(name) or {}, name, ExpertConfig(1, 1, 1))


def run_model(name: str, plan: Plan, device: torch.device) -> ModelRun:
    """Measure one open_clip architecture with random weights."""
    config, preprocess = architecture(name), PreprocessConfig()
    torch.manual_seed(0)
    with torch.device(device):
        model = EntityClip(config).eval()
    plain = ServingTowers(model.backbone, plan.precision)
    prepare = preparing(preprocess, device)
    inputs = [random_inputs(config, count, plan.texts, device) for count in plan.batches]
    modules = Prepared(Modules(model, plan.precision), prepare)
    rows = list(measure("open_clip", modules, "channels_last", inputs, device, for_s=plan.for_s))
    for layout in LAYOUTS:
        towers = Prepared(plain, preparing(preprocess, device, layout))
        rows += measure("plain", towers, layout, inputs, device, for_s=plan.for_s)
    best: Towers = Prepared(plain, prepare)
    compile_s, cosine = 0.0, None
    try:
        fast, compile_s = compiled(
            plain, prepare, config, plan.texts, max(plan.batches), plan.backend, device
        )
    except CompileError as error:
        print(error)
    else:
        cosine = worst_cosine(fast, best, inputs[0])
        way = f"compiled ({plan.backend})"
        rows += measure(way, fast, "channels_last", inputs, device, for_s=plan.for_s)
        best = fast
    quickest = max(rows, key=lambda row: row.posts_a_second).way
    side = config.vision.image_size
    files = draw_jpegs(plan.pictures)
    pool = [PoolRate(threads, pool_rate(files, side, threads, for_s=plan.for_s)) for threads in plan.threads]
    decoding = device_decoding(files, side, device, batch=plan.batches[-1], for_s=plan.for_s)
    return ModelRun(
        name,
        plan.precision,
        flops_a_post(config, plan.texts),
        compile_s,
        cosine,
        rows,
        pool,
        decoding,
        list(end_to_end(model, best, files, plan, device, compiled_too=quickest.startswith("compiled"))),
    )


def worst_cosine(one: Towers, other: Towers, inputs: Inputs) -> float:
    """Least cosine of the vectors of two ways, of pictures and texts."""
    with torch.inference_mode():
        pairs = zip(encode(one, inputs), encode(other, inputs), strict=True)
        return min(float(functional.cosine_similarity(a.float(), b.float()).min()) for a, b in pairs)


def drawn_posts(files: Sequence[bytes], count: int, texts: Texts) -> list[RawPost]:
    """Posts with texts of the given lengths, no two the same."""
    draw = random.Random(0)

    def words(tokens: int) -> str:
        return " ".join(draw.choices(_WORDS, k=tokens - 2))  # each a token; SOT and EOT

    return [
        RawPost(words(texts.caption), words(texts.explanation), files[number % len(files)])
        for number in range(count)
    ]


def end_to_end(
    model: EntityClip,
    towers: Towers,
    files: Sequence[bytes],
    plan: Plan,
    device: torch.device,
    *,
    compiled_too: bool,
) -> Iterator[EndToEnd]:
    """Posts a second with the pool's decoding, and with the device's; as the device was quickest."""
    rows = plan.batches[-1]
    tokens = rows * max(plan.texts.caption, plan.texts.explanation)
    limits = BatchLimits(rows=rows, tokens=tokens, pixels=rows * model.config.vision.image_size**2)
    encoder = Encoder(
        model, device=str(device), limits=limits, precision=plan.precision, compiled=compiled_too
    )
    posts = drawn_posts(files, plan.posts, plan.texts)
    ways: dict[str, Callable[[Sequence[RawPost]], int]] = {
        "pool": lambda some: pooled(encoder, some, rows, plan.threads[-1]),
        DeviceDecoder.name(device): lambda some: decoded_on_device(encoder, towers, some, rows),
    }
    for decoder, way in ways.items():
        way(posts[: 2 * rows])  # warm: threads, streams, memory
        started = time.perf_counter()
        done = way(posts)
        yield EndToEnd(decoder, rows, done / (time.perf_counter() - started))


def pooled(encoder: Encoder, posts: Sequence[RawPost], rows: int, threads: int) -> int:
    """Through the project's own stream of batches; gives how many posts have all their vectors."""
    return sum(
        int(np.isfinite(np.stack([batch.images, batch.texts])).all(axis=(0, 2)).sum())
        for batch in encode_stream(encoder, posts, threads=threads, rows=rows)
    )


@torch.inference_mode()
def decoded_on_device(encoder: Encoder, towers: Towers, posts: Sequence[RawPost], rows: int) -> int:
    """Batch by batch on one thread, decoding on the device; gives how many posts have their vectors."""
    decoder, done = DeviceDecoder(encoder.image_size, encoder.device), 0
    for start in range(0, len(posts), rows):
        batch = posts[start : start + rows]
        pixels = decoder([post.picture for post in batch if post.picture is not None])
        features = functional.normalize(towers.image_features(pixels).float(), dim=-1)
        texts = encoder.encode_texts([post.caption for post in batch] + [post.explanation for post in batch])
        images = features.cpu().numpy()
        done += int((np.isfinite(images).all(axis=1) & np.isfinite(texts[: len(batch)]).all(axis=1)).sum())
    return done


def _plan(options: argparse.Namespace) -> Plan:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = tuple(dict.fromkeys((1, max(1, cores // 2), cores)))
    texts = Texts(options.caption_tokens, options.explanation_tokens)
    if options.small:
        return Plan(options.precision, texts, (4,), threads[-1:], 512, 12, 4, 0.2, "eager")
    return Plan(options.precision, texts, tuple(options.batch), threads, 8192, 8192, 64, 1.0, "inductor")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", nargs="+", help="open_clip architectures; default ViT-B-32 ViT-L-14")
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[64, 256, 1024], help="device only; the last end to end"
    )
    parser.add_argument("--caption-tokens", type=int, default=24)
    parser.add_argument("--explanation-tokens", type=int, default=40)
    parser.add_argument("--small", action="store_true", help="ViT-B-32, few posts, no compiler: does it run?")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.model = options.model or (["ViT-B-32"] if options.small else ["ViT-B-32", "ViT-L-14"])
    return options


def main() -> None:
    options = _arguments()
    try:
        device = torch.device(choose_device(options.device))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if options.small:
        torch.set_num_threads(1)  # threads that wait for each other on a busy machine take minutes
    plan, machine = _plan(options), this_machine(str(device))
    print(*machine.lines(), sep="\n")
    if options.small:
        print("Small: this shows that it runs; its numbers say nothing about a GPU.")
    peak = matmul_peak(device, plan.precision, plan.matmul_side, for_s=plan.for_s)
    print(f"{plan.precision} matrix products of {plan.matmul_side}: {peak / 1e12:.2f} TFLOP/s\n", flush=True)
    runs = []
    for name in options.model:
        runs.append(run_model(name, plan, device))
        print(tables(runs[-1], peak), flush=True)
        print(*("", *verdicts(runs[-1], peak), ""), sep="\n", flush=True)
    if options.json:
        numbers = {"machine": msgspec.to_builtins(machine, enc_hook=str), "plan": asdict(plan), "peak": peak}
        options.json.write_text(json.dumps({**numbers, "models": [asdict(run) for run in runs]}, indent=1))


if __name__ == "__main__":
    main()
