"""Training steps to compare: ours, the published way and the backbone alone, with random weights.

All texts have the model's whole context and nothing is cut. The published way (`worker.bench.published`) has
the same weights and the same loss as ours. The backbone alone is a plain CLIP that encodes image, text and
explanation and projects only the rows it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import open_clip
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import backbone as towers
from model.checkpoint import load
from model.config import ArchitectureConfig, ExpertConfig
from model.entityclip import EntityClip, normalise
from model.losses.contrastive import contrastive_loss
from model.losses.matching import hard_negatives
from model.losses.total import LossWeights, entityclip_loss
from model.sources.openclip_config import read_architecture
from model.sources.published import load_published
from model.training.optimizer import build_optimizer
from model.training.recipe import OptimizerConfig
from worker.bench.published import PublishedEntityClip, published_loss
from worker.bench.rounds import Turns, run_in_turns
from worker.bench.train_report import BACKBONE, OURS, PUBLISHED, Precision, Step, step_name


@dataclass(frozen=True, slots=True)
class Batch:
    """Random inputs: image [B, 3, S, S] float, text and explanation [B, L] int64."""

    image: Tensor
    text: Tensor
    explanation: Tensor


def architecture(name: str) -> ArchitectureConfig:
    """A model's sizes with OpenAI's activation, and experts that attend to padding as the published ones do.

    Args:
        name: an open_clip ViT, which gets the published 4/4/4 experts, or a checkpoint.

    Raises:
        ValueError, OSError: there is no such model, or EntityCLIP cannot use it.
    """
    if name in open_clip.list_models():
        found = read_architecture(open_clip.get_model_config(name) or {}, name, ExpertConfig())
    else:
        found = load(name).config.architecture
    experts = msgspec.structs.replace(found.experts, attend_padding=True)
    return msgspec.structs.replace(found, experts=experts, quick_gelu=True)


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


def run_step(
    loss: Callable[[], Tensor], parameters: list[nn.Parameter], device: str, precision: Precision
) -> Step:
    """Drop the gradients, then run one forward and backward pass; blocks until the device is done."""
    for parameter in parameters:
        parameter.grad = None
    before = _start_memory(device)
    started = now_s(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision is Precision.BF16):
        value = loss()
    middle = now_s(device)
    value.backward()  # type: ignore[no-untyped-call]
    return Step(middle - started, now_s(device) - middle, _peak_memory(device) - before)


def _start_memory(device: str) -> int:
    if torch.device(device).type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak_memory(device: str) -> int:
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else 0


def now_s(device: str) -> float:
    """The clock, once the device has done what was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def unique_parameters(*models: nn.Module) -> list[nn.Parameter]:
    """Parameters of all models, those they share once."""
    return list(dict.fromkeys(parameter for model in models for parameter in model.parameters()))


def time_steps(
    losses: Mapping[str, Callable[[], Tensor]],
    parameters: list[nn.Parameter],
    device: str,
    precisions: Sequence[Precision],
    rounds: int,
) -> Turns[Step]:
    """Time every way in every precision by turns, after a step of each to warm up."""
    steps = {
        step_name(way, precision): partial(run_step, loss, parameters, device, precision)
        for precision in precisions
        for way, loss in losses.items()
    }
    for step in steps.values():
        step()
    return run_in_turns(steps, rounds)


def time_optimisers(
    ours: EntityClip, parameters: list[nn.Parameter], device: str, rounds: int
) -> Turns[None]:
    """Time a step over all parameters of ours as the recipes build it and as torch does by itself.

    Args:
        parameters: of all models, whose gradients are dropped.
    """
    for parameter in parameters:
        parameter.grad = None
    for parameter in ours.parameters():
        parameter.grad = torch.full_like(parameter, 1e-6)
    recipe = OptimizerConfig()
    plain = torch.optim.AdamW(
        ours.parameters(), betas=(0.9, recipe.beta2), eps=recipe.epsilon, weight_decay=recipe.weight_decay
    )

    def run(optimiser: torch.optim.Optimizer) -> None:
        optimiser.step()
        now_s(device)

    both = {"ours, fused": build_optimizer(ours, recipe), "torch's default": plain}
    ways = {name: partial(run, each) for name, each in both.items()}
    for way in ways.values():
        way()  # makes its state
    return run_in_turns(ways, rounds)
