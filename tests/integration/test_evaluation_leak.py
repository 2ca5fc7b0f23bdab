"""Pure noise: the auxiliary loss is solved through the explanation alone, and no reported metric must rise.

V* and T* of a pair read the same explanation, so their in-batch recall grows without a look at the image.
The evaluation gives no image its own explanation; if it did, the last test here shows what it would report.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model import checkpoint
from model.config import ArchitectureConfig, CheckpointConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.evaluation.exact_scores import Scores
from model.evaluation.ranking import ranks
from model.evaluation.retrieval import rank_metrics
from model.losses.total import LossWeights, entityclip_loss
from model.tokenizer import ClipTokenizer
from worker.cli.main import run_command

SIDE, BATCH, STEPS, ROWS = 16, 64, 60, 256
DEVIATIONS = 5.0  # about a hundred metrics are looked at
ARCHITECTURE = ArchitectureConfig(
    embed_dim=64,
    vision=VisionConfig(image_size=SIDE, patch_size=8, width=64, layers=1),
    text=TextConfig(width=64, heads=1, layers=1, vocab_size=1024, context_length=16),
    experts=ExpertConfig(2, 2, 2),
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model after some steps on noise, and the in-batch R@1 of (V*, T*) at each."""

    model: EntityClip
    auxiliary_recall: list[float]


def noise_texts(rng: np.random.Generator, count: int) -> list[str]:
    """Three random words each."""
    return [" ".join("".join(rng.choice(list("abcdefghij"), 3)) for _ in range(3)) for _ in range(count)]


def noise_pixels(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def as_tensors(
    pixels: np.ndarray, captions: list[str], explanations: list[str]
) -> tuple[Tensor, Tensor, Tensor]:
    tokenizer = ClipTokenizer(ARCHITECTURE.text.vocab_size, ARCHITECTURE.text.context_length)
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 64 - 2
    return image, torch.from_numpy(tokenizer(captions)), torch.from_numpy(tokenizer(explanations))


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Fresh noise in every batch, so that nothing can be learnt by heart."""
    torch.manual_seed(0)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    model = EntityClip(ARCHITECTURE)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    recall = []
    for _ in range(STEPS):
        batch = as_tensors(noise_pixels(rng, BATCH), noise_texts(rng, BATCH), noise_texts(rng, BATCH))
        output = model(*batch)
        loss = entityclip_loss(model, output, weights=LossWeights(1.0, 1.0), generator=generator)
        optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scores = (output.fused_image_features @ output.fused_text_features.T).detach()
        recall.append(float((scores.argmax(dim=1) == torch.arange(BATCH)).float().mean()))
    return Trained(model.eval(), recall)


def beyond_chance(metrics: dict[str, float]) -> list[str]:
    """The metrics of ROWS queries among ROWS candidates that a blind guess would not give."""
    deviation = (ROWS**2 - 1) ** 0.5 / math.sqrt(12 * ROWS)  # of a mean of independent uniform ranks
    found = [] if abs(metrics["mean_rank"] - (ROWS + 1) / 2) < DEVIATIONS * deviation else ["mean_rank"]
    for k in (1, 5, 10, 50, 100):
        chance = k / ROWS
        bound = DEVIATIONS * math.sqrt(chance * (1 - chance) / ROWS)
        if abs(metrics[f"R@{k}"] - chance) >= bound:
            found.append(f"R@{k}")
    return found


def write_noise(folder: Path, rng: np.random.Generator) -> str:
    """A data set of noise: picture, caption, explanation and section have nothing to do with each other."""
    lines = []
    for split, count in (("train", 4), ("val", 64), ("test", ROWS)):
        texts = zip(noise_texts(rng, count), noise_texts(rng, count), strict=True)
        for row, (caption, explanation) in enumerate(texts):
            name = f"{split}-{row}.png"
            Image.fromarray(noise_pixels(rng, 1)[0]).save(folder / name)
            section = str(rng.choice(["World", "Sports", "Travel", "Food"]))
            lines.append(
                {
                    "id": name,
                    "image": name,
                    "caption": caption,
                    "explanation": explanation,
                    "section": section,
                    "split": split,
                }
            )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"jsonl:{folder / 'pairs.jsonl'}"


def test_on_noise_the_auxiliary_recall_rises_far_above_chance(trained: Trained) -> None:
    assert trained.auxiliary_recall[0] < 10 / BATCH
    assert np.mean(trained.auxiliary_recall[-5:]) > 0.5


def test_on_noise_no_metric_of_evaluate_leaves_chance(trained: Trained, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model", trained.model, CheckpointConfig(ARCHITECTURE))
    data, output = write_noise(tmp_path, np.random.default_rng(1)), tmp_path / "result.json"
    arguments = ["evaluate", "--checkpoint", str(tmp_path / "model"), "--data", data, "--output", str(output)]
    assert run_command([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    result = json.loads(output.read_text())
    assert {(each["variant"], each["explanations"]) for each in result["variants"]} >= {
        ("P", "none"),
        *((variant, shown) for variant in ("Q", "R", "QR") for shown in ("none", "true", "shuffled")),
    }
    risen = {
        (each["variant"], each["explanations"], direction, form): beyond_chance(each[direction][form])
        for each in result["variants"]
        for direction in ("image_to_text", "text_to_image")
        for form in ("strict", "duplicate_aware")
    }
    assert {where: names for where, names in risen.items() if names} == {}
    assert not any(comparison["helps"] for comparison in result["comparisons"])
    assert abs(result["sections"]["accuracy"] - 1 / 4) < DEVIATIONS * math.sqrt(3 / 16 / ROWS)


def test_an_image_under_its_own_explanation_would_be_found_out(trained: Trained) -> None:
    rng = np.random.default_rng(1)
    batch = as_tensors(noise_pixels(rng, ROWS), noise_texts(rng, ROWS), noise_texts(rng, ROWS))
    with torch.no_grad():
        output = trained.model(*batch)
    leaking = Scores(output.fused_image_features.numpy(), output.fused_text_features.numpy())
    metrics = rank_metrics(ranks(leaking, np.arange(ROWS)).strict)
    assert set(beyond_chance(metrics)) == {"mean_rank", "R@1", "R@5", "R@10", "R@50", "R@100"}
