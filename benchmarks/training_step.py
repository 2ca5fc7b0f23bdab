"""What a training step costs: ours, the published way and the backbone alone.

    python -m benchmarks.training_step --batch 16 --rounds 5
    python -m benchmarks.training_step --device cuda --batch 192 --rounds 20 --json step.json

Run from the root of the repository. All in one run, with random weights, 77 tokens each and nothing cut.
The published way is our own plain form of it (`tests/published_reference.py`), with the same weights and the
same loss as ours. The backbone alone is a plain CLIP that encodes image, text and explanation and projects
only the rows it needs. Steps are timed in turns, so that other work on the machine touches all alike; a ratio
is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step_report import BACKBONE, OURS, PUBLISHED, Step, table, verdicts
from model import backbone as towers
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip, normalise
from model.losses.contrastive import contrastive_loss
from model.losses.matching import hard_negatives
from model.losses.total import LossWeights, entityclip_loss
from model.sources.published import load_published
from tests.published_reference import PublishedEntityClip, published_loss

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Batch:
    """Random inputs: image [B, 3, S, S] float, text and explanation [B, L] int64."""

    image: Tensor
    text: Tensor
    explanation: Tensor


def architecture(name: str) -> ArchitectureConfig:
    """Return an open_clip ViT with the published 4/4/4 experts and OpenAI's activation."""
    config = open_clip.get_model_config(name)
    if config is None:
        raise SystemExit(f"open_clip knows no model {name!r}")
    vision, text = config["vision_cfg"], config["text_cfg"]
    return ArchitectureConfig(
        embed_dim=config["embed_dim"],
        vision=VisionConfig(**{key: vision[key] for key in ("image_size", "patch_size", "width", "layers")}),
        text=TextConfig(
            **{key: text[key] for key in ("width", "heads", "layers", "vocab_size", "context_length")}
        ),
        experts=ExpertConfig(attend_padding=True),
        name=name,
    )


def random_batch(config: ArchitectureConfig, size: int, device: str) -> Batch:
    """Make triples whose texts end anywhere."""
    torch.manual_seed(1)
    side, text = config.vision.image_size, config.text
    ids = torch.randint(1, text.vocab_size - 2, (2 * size, text.context_length))
    end = torch.randint(2, text.context_length, (2 * size, 1))
    place = torch.arange(text.context_length)
    ids = ids.masked_fill(place > end, 0).masked_fill(place == end, text.vocab_size - 1).to(device)
    return Batch(torch.randn(size, 3, side, side).to(device), ids[:size], ids[size:])


def build_models(config: ArchitectureConfig, device: str) -> tuple[EntityClip, PublishedEntityClip]:
    """Make both forms of one random model; they share the towers."""
    torch.manual_seed(0)
    digits = f"{config.experts.image}{config.experts.explanation}{config.experts.text}"
    with torch.device(device):
        published = PublishedEntityClip(config)
        ours = load_published(published.published_state(), digits)
    ours.backbone = published.backbone
    return ours.train(), published.train()


def losses(ours: EntityClip, published: PublishedEntityClip, batch: Batch) -> dict[str, Callable[[], Tensor]]:
    """Return the forward pass and loss of each way; ours and the published draw the same negatives."""

    def draw() -> torch.Generator:
        return torch.Generator(batch.image.device).manual_seed(2)

    def our_loss() -> Tensor:
        output = ours(batch.image, batch.text, batch.explanation)
        return entityclip_loss(ours, output, weights=LossWeights(), generator=draw()).total

    def published_way() -> Tensor:
        tokens = published.encode(batch.image, batch.text, batch.explanation)
        negatives = hard_negatives(published.pair_logits(*tokens.rows()), draw())
        return published_loss(published, tokens, negatives.image, negatives.text).total

    def backbone_loss() -> Tensor:
        image = normalise(towers.image_features(ours.backbone, batch.image))
        both = towers.text_features(ours.backbone, torch.cat([batch.text, batch.explanation]))
        text, explanation = normalise(both).chunk(2)
        scale = ours.logit_scale()
        return contrastive_loss(image, text, scale) + contrastive_loss(image, explanation, scale)

    return {OURS: our_loss, PUBLISHED: published_way, BACKBONE: backbone_loss}


def forward_flops(loss: Callable[[], Tensor]) -> int:
    """Count the floating-point operations of a forward pass and loss as torch's FlopCounterMode does."""
    with FlopCounterMode(display=False) as counter:
        loss()
    return int(counter.get_total_flops())


def time_step(way: str, loss: Callable[[], Tensor], device: str, precision: str) -> Step:
    """Run and time one forward and backward pass."""
    cuda, dtype = device != "cpu", _AUTOCAST[precision]
    before = _start_memory() if cuda else 0
    started, cpu = _now(cuda), time.process_time()
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None):
        value = loss()
    middle = _now(cuda)
    value.backward()  # type: ignore[no-untyped-call]
    ended, cpu_s = _now(cuda), time.process_time() - cpu
    peak = torch.cuda.max_memory_allocated() - before if cuda else None
    return Step(way, precision, middle - started, ended - middle, None if cuda else cpu_s, peak)


def _start_memory() -> int:
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _now(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def time_ways(
    ways: dict[str, Callable[[], Tensor]],
    parameters: list[nn.Parameter],
    device: str,
    precisions: list[str],
    rounds: int,
) -> list[Step]:
    """Time every way in every precision by turns, `rounds` times after a warm-up."""
    steps: list[Step] = []
    for number in range(rounds + 1):
        for precision in precisions:
            for way, loss in ways.items():
                _clear(parameters)
                step = time_step(way, loss, device, precision)
                print(f"  round {number}/{rounds}  {precision} {way:<10} {step.seconds:8.3f} s", flush=True)
                steps += [step] if number else []
    _clear(parameters)
    return steps


def _clear(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def time_optimizer(
    loss: Callable[[], Tensor], parameters: list[nn.Parameter], device: str, rounds: int
) -> float:
    """Median seconds of one AdamW step; it changes the weights."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    loss().backward()  # type: ignore[no-untyped-call]
    cuda, seconds = device != "cpu", []
    for _ in range(rounds + 1):
        started = _now(cuda)
        optimizer.step()
        seconds.append(_now(cuda) - started)
    return statistics.median(seconds[1:])


def main() -> None:
    arguments = _arguments()
    device: str = arguments.device
    precisions: list[str] = arguments.precision or (["fp32"] if device == "cpu" else ["fp32", "bf16"])
    config = architecture(arguments.model)
    ours, published = build_models(config, device)
    ways = losses(ours, published, random_batch(config, arguments.batch, device))
    machine = f"CPU, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    print(f"{arguments.model}, batch {arguments.batch}, {machine}, torch {torch.__version__}")
    with torch.no_grad():
        values = {way: float(ways[way]()) for way in (OURS, PUBLISHED)}
    print("loss of the batch: " + ", ".join(f"{way} {value:.6f}" for way, value in values.items()))
    flops = {way: forward_flops(loss) for way, loss in ways.items()}
    steps = time_ways(ways, unique_parameters(ours, published), device, precisions, arguments.rounds)
    optimizer_s = time_optimizer(ways[OURS], list(ours.parameters()), device, arguments.rounds)
    print("\n" + table(flops, steps) + "\n\n" + "\n".join(verdicts(flops, steps)))
    print(f"optimiser apart (AdamW, all parameters of ours): {optimizer_s:.3f} s")
    if arguments.json:
        report = {
            "model": arguments.model,
            "batch": arguments.batch,
            "machine": machine,
            "torch": torch.__version__,
            "loss": values,
            "forward_flops": flops,
            "optimizer_s": optimizer_s,
            "steps": [asdict(step) for step in steps],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def unique_parameters(*models: nn.Module) -> list[nn.Parameter]:
    """Parameters of all models, those they share once."""
    return list(dict.fromkeys(parameter for model in models for parameter in model.parameters()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--model", default="ViT-B-32", help="an open_clip ViT")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--precision", nargs="+", choices=list(_AUTOCAST), help="default: fp32, on a GPU both"
    )
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
