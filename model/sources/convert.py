"""`entityclip convert`: a model from elsewhere into a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

from model import checkpoint
from model.config import CheckpointConfig, ExpertConfig
from model.sources import openclip
from model.sources.published import load_published, read_expert_counts
from model.sources.weights import read_weights


def convert(source: str | Path, output: Path, experts: str | None = None) -> None:
    """Write a checkpoint directory.

    Args:
        source: a published `.pt` state dict (bare or under `state_dict` / `model`, only tensors are
            unpickled), or what `model.load` takes by name: `open_clip:NAME/TAG`, `hf-hub:…`.
        experts: image, explanation and text experts, as `444` or `12,4,4`: checked against published weights,
            or the number of fresh ones of an open_clip model. As the weights have it, else 4/4/4, when None.

    Raises:
        ValueError: no such file, more than tensors in it, or no EntityCLIP's weights; in one line.
    """
    name = str(source)
    if name.startswith((openclip.PREFIX, checkpoint.HUB_PREFIX)):
        counts = None if experts is None else read_expert_counts(experts)
        loaded = checkpoint.load(name, experts=None if counts is None else ExpertConfig(*counts))
        own = loaded.config.architecture.experts
        if counts not in (None, (own.image, own.explanation, own.text)):
            raise ValueError(f"{name} has {own.image},{own.explanation},{own.text} experts, not {experts}")
        checkpoint.save(output, loaded.model, loaded.config)
        return
    model = load_published(read_weights(Path(source)), experts)
    training: dict[str, object] = {"converted_from": Path(source).name}
    checkpoint.save(output, model, CheckpointConfig(architecture=model.config, training=training))
