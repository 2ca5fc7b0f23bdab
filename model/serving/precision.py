"""Which precision to serve in: tried on the machine at start, not guessed from its name."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional

from model.serving.towers import Precision, Towers, serving_towers

LEAST_COSINE = 0.9995  # of a vector to float32's, at the worst row of the trial
_IMAGES, _TEXTS, _TOKENS = 8, 16, 32
_GPU_TIMES = 32  # a GPU has done so few before it is asked for more
_ROUNDS = 3  # at least, in turns; more while they are short: a busy machine makes any one of them long
_MOST_ROUNDS, _LONG_S = 10, 0.3


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """What was chosen, and why.

    Args:
        precision: that serves.
        seconds: of one trial batch, by precision; of those tried.
        cosine: worst row's cosine to float32, by precision.
    """

    precision: Precision
    seconds: Mapping[Precision, float]
    cosine: Mapping[Precision, float]

    def line(self) -> str:
        """For a person, in one line."""
        tried = ", ".join(
            f"{name} {seconds * 1000:.0f} ms (cosine {self.cosine[name]:.5f})"
            for name, seconds in self.seconds.items()
        )
        return f"{self.precision}; tried: {tried}"


def choose_precision(backbone: CLIP, device: torch.device) -> PrecisionChoice:
    """Try what the device may be quick in and take the quickest whose vectors are float32's to rounding.

    Blocks for some batches' time: 0.1 s for a small model, some seconds for a ViT-B on a processor.

    Args:
        backbone: in eval mode, on the device.
    """
    image, text = _inputs(backbone, device)
    names: tuple[Precision, ...] = ("fp32", "bf16") if device.type == "cpu" else ("fp32", "bf16", "fp16")
    made = {name: serving_towers(backbone, name) for name in names}
    tried = {name: towers for name, towers in made.items() if towers.precision == name}
    vectors = {name: _encode(towers, image, text) for name, towers in tried.items()}  # this also warms up
    cosine = {
        name: min(_worst_cosine(*pair) for pair in zip(found, vectors["fp32"], strict=True))
        for name, found in vectors.items()
    }
    seconds = dict.fromkeys(tried, math.inf)
    begun = time.perf_counter()
    for turn in range(_MOST_ROUNDS):
        if turn >= _ROUNDS and time.perf_counter() - begun > _LONG_S:
            break
        for name, towers in tried.items():
            seconds[name] = min(seconds[name], _timed(towers, image, text, device))
    exact = [name for name in seconds if cosine[name] >= LEAST_COSINE]
    return PrecisionChoice(min(exact, key=seconds.__getitem__, default="fp32"), seconds, cosine)


def _inputs(backbone: CLIP, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise of the inputs' shapes; the same each time."""
    generator = torch.Generator().manual_seed(0)
    height, width = backbone.visual.image_size
    times = 1 if device.type == "cpu" else _GPU_TIMES
    image = torch.randn(times * _IMAGES, 3, height, width, generator=generator)
    length = min(_TOKENS, backbone.context_length)
    text = torch.randint(1, backbone.vocab_size - 2, (times * _TEXTS, length), generator=generator)
    text[:, -1] = backbone.vocab_size - 1
    return image.to(device), text.to(device)


@torch.inference_mode()
def _encode(towers: Towers, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    return (
        functional.normalize(towers.image_features(image).float(), dim=-1),
        functional.normalize(towers.text_features(text).float(), dim=-1),
    )


def _timed(towers: Towers, image: Tensor, text: Tensor, device: torch.device) -> float:
    begun = time.perf_counter()
    _encode(towers, image, text)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _worst_cosine(vectors: Tensor, reference: Tensor) -> float:
    cosine = (vectors * reference).sum(dim=-1).nan_to_num(-1.0)  # half precision may overflow
    return cosine.min().item()
