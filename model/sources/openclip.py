"""open_clip's pretrained towers as an EntityCLIP with fresh heads.

    open_clip:NAME/TAG      weights that open_clip knows, downloaded once
    open_clip:NAME/FILE     the same architecture with weights from a local file
    a folder with `open_clip_config.json`, as open_clip's hub repositories have it

open_clip's `create_model` is not used: it warns where the activation is the wrong one, resizes
positions silently, and its OpenAI loader rounds to fp16. Its configuration is translated into ours
and the weights must fit exactly, so that what is loaded can be saved and loaded again.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import get_model_config, list_models
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from model.backbone import build_backbone
from model.config import ArchitectureConfig, CheckpointConfig, ExpertConfig, PreprocessConfig
from model.entityclip import EntityClip
from model.sources import hub
from model.sources.openclip_config import read_architecture, read_preprocess
from model.sources.weights import CheckpointError, load_exactly, read_weights

PREFIX = "open_clip:"
CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_QUICK_GELU = "-quickgelu"
_SHOWN = 3  # near names


def load_name(spec: str, experts: ExpertConfig, seed: int) -> tuple[EntityClip, CheckpointConfig]:
    """Load `NAME/TAG` or `NAME/FILE`.

    Args:
        experts: of the fresh heads.
        seed: of the fresh heads.

    Raises:
        CheckpointError: unknown, unusable, or its weights cannot be had.
    """
    name, _, weights = spec.partition("/")
    config = _model_config(name)
    architecture = read_architecture(config, name, experts)
    known = get_pretrained_cfg(name, weights)
    if known:
        _check_activation(name, weights, architecture, known)
        preprocess = read_preprocess(known, f"{name}/{weights}")
        path = _download(name, known)
    else:
        preprocess, path = PreprocessConfig(), _local_file(name, weights)
    return _assemble(architecture, preprocess, path, f"{PREFIX}{spec}", seed)


def load_folder(
    folder: Path, source: str, experts: ExpertConfig, seed: int
) -> tuple[EntityClip, CheckpointConfig]:
    """Load a folder that holds `open_clip_config.json` and weights.

    Args:
        source: what to call it.

    Raises:
        CheckpointError: unreadable or unusable.
    """
    config = read_repository_config(folder / CONFIG_NAME)
    architecture = read_architecture(config["model_cfg"], source, experts)
    preprocess = read_preprocess(config.get("preprocess_cfg") or {}, source)
    for name in WEIGHTS_NAMES:
        if (folder / name).is_file():
            return _assemble(architecture, preprocess, folder / name, source, seed)
    raise CheckpointError(f"{folder} holds none of {', '.join(WEIGHTS_NAMES)}")


def read_repository_config(path: Path) -> dict[str, Any]:
    """Parse `open_clip_config.json`.

    Raises:
        CheckpointError: no JSON object with a `model_cfg`.
    """
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise CheckpointError(f"{path}: no object with a `model_cfg`")
    return config


def _assemble(
    architecture: ArchitectureConfig, preprocess: PreprocessConfig, path: Path, source: str, seed: int
) -> tuple[EntityClip, CheckpointConfig]:
    weights = read_weights(path, torchscript=True)
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(architecture)
        load_exactly(backbone, weights, f"{path} does not fit {architecture.name}")
        model = EntityClip(architecture, backbone)
    facts: dict[str, object] = {"initialised_from": source, "heads": "fresh", "heads_seed": seed}
    return model.eval(), CheckpointConfig(architecture=architecture, preprocess=preprocess, training=facts)


def _model_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] | None = get_model_config(name) if name in list_models() else None
    if config is None:
        raise CheckpointError(f"open_clip has no model {name!r}{_near(name, list_models())}")
    return config


def _local_file(name: str, weights: str) -> Path:
    path = Path(weights).expanduser()
    if weights and path.is_file():
        return path
    tags = list_pretrained_tags_by_model(name)
    choice = f"{PREFIX}{name}/TAG with one of {', '.join(tags)}" if tags else f"{PREFIX}{name}/FILE"
    if not weights:
        raise CheckpointError(f"which weights of {name}? {choice}")
    if "/" in weights or path.suffix:
        raise CheckpointError(f"no file {weights} with weights of {name}")
    raise CheckpointError(
        f"open_clip has no weights {weights!r} of {name}{_near(weights, tags) or f': {choice}'}"
    )


def _near(name: str, known: list[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    begun = [candidate for candidate in lower if name and candidate.startswith(name.lower())]
    similar = difflib.get_close_matches(name.lower(), lower, n=_SHOWN, cutoff=0.5)
    near = list(dict.fromkeys(begun + similar))[:_SHOWN]
    return f"; near it: {', '.join(lower[candidate] for candidate in near)}" if near else ""


def _check_activation(
    name: str, tag: str, architecture: ArchitectureConfig, known: Mapping[str, Any]
) -> None:
    """The weights say which activation they were trained with; open_clip only warns."""
    if bool(known.get("quick_gelu")) == architecture.quick_gelu:
        return
    right = name.removesuffix(_QUICK_GELU) if architecture.quick_gelu else name + _QUICK_GELU
    trained = "QuickGELU" if known.get("quick_gelu") else "GELU"
    there = f": say {PREFIX}{right}/{tag}" if right in list_models() else ""
    raise CheckpointError(
        f"the weights {tag} of {name} were trained with {trained}, which {name} is not{there}"
    )


def _download(name: str, known: Mapping[str, Any]) -> Path:
    repository, _, file = str(known["hf_hub"]).rpartition("/")
    names = [Path(file).with_suffix(".safetensors").name, file] if file else list(WEIGHTS_NAMES)
    remedy = f"{hub.elsewhere(repository, names[0])}, or give the file itself as {PREFIX}{name}/FILE"
    path = hub.fetch(repository, names, remedy)
    if path is None:
        raise CheckpointError(f"the hub's repository {repository} holds none of {', '.join(names)}")
    return path
