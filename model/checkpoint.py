"""A checkpoint is a directory: `config.json` and `model.safetensors`.

`model_id`, a short hash of both files, names the model in every vector store and every match.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.config import CheckpointConfig
from model.entityclip import EntityClip

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TINY = "tiny"


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message is one line that names the path."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model, float32, in eval mode, with what its directory says of it."""

    model: EntityClip
    config: CheckpointConfig
    model_id: str


def save(
    folder: Path, model: EntityClip, config: CheckpointConfig, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write a checkpoint directory; each file is replaced whole or not at all.

    Args:
        dtype: of the stored weights; they are read back as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(dtype).contiguous().cpu() for name, tensor in model.state_dict().items()
    }
    part = folder / (WEIGHTS_NAME + ".part")
    save_file(weights, part)
    part.chmod(0o644)  # safetensors makes it the owner's alone
    part.replace(folder / WEIGHTS_NAME)
    write_config(folder, config)


def write_config(folder: Path, config: CheckpointConfig) -> None:
    """Replace `config.json` whole or not at all."""
    part = folder / (CONFIG_NAME + ".part")
    part.write_bytes(config.to_json())
    part.replace(folder / CONFIG_NAME)


def load(path_or_name: str | Path = TINY) -> Checkpoint:
    """Open a checkpoint.

    Args:
        path_or_name: a checkpoint directory, or `tiny` for the one in this package.

    Raises:
        CheckpointError: missing, damaged, or of another architecture than its config says.
    """
    folder = resolve(path_or_name)
    config = read_config(folder)
    model = EntityClip(config.architecture)
    try:
        weights = load_file(folder / WEIGHTS_NAME)
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(f"{folder / WEIGHTS_NAME}: {exc}") from exc
    except RuntimeError as exc:
        raise CheckpointError(f"{folder}: the weights do not fit {CONFIG_NAME}: {_first_line(exc)}") from exc
    return Checkpoint(model.eval(), config, model_id(folder))


def resolve(path_or_name: str | Path) -> Path:
    """Return the directory of a checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    folder = packaged(TINY) if str(path_or_name) == TINY else Path(path_or_name)
    if not (folder / CONFIG_NAME).is_file() or not (folder / WEIGHTS_NAME).is_file():
        raise CheckpointError(f"{folder} is no checkpoint: it needs {CONFIG_NAME} and {WEIGHTS_NAME}")
    return folder


def packaged(name: str) -> Path:
    """Where a checkpoint that ships in this package lies."""
    return Path(str(resources.files("model") / "checkpoints" / name))


def read_config(folder: Path) -> CheckpointConfig:
    """Read and validate `config.json`.

    Raises:
        CheckpointError: unreadable or invalid.
    """
    path = folder / CONFIG_NAME
    try:
        return CheckpointConfig.from_json(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: {_first_line(exc)}") from exc


def model_id(folder: Path) -> str:
    """Hash of both files: 12 hex digits."""
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
