"""A checkpoint is a directory: `config.json` and `model.safetensors`.

`model_id` names the model in every vector store and every match. It is a short hash of what makes the
vectors: the weights, and of the configuration the architecture, the preprocessing and what the text tower is
given. Another calibration, or other facts about training and quality, leave it as it is.

Models also come from elsewhere: `open_clip:NAME/TAG` (see `model.sources.openclip`) and
`hf-hub:ORGANISATION/NAME`, a repository that holds either a checkpoint of ours or an open_clip model. An
open_clip model has no heads: it gets fresh ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from model.config import CheckpointConfig, ExpertConfig
from model.entityclip import EntityClip
from model.sources import hub, openclip
from model.sources.weights import CheckpointError, load_exactly, read_weights

__all__ = ["Checkpoint", "CheckpointError", "load", "model_id", "packaged", "read_config", "resolve", "save"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TINY = "tiny"
HUB_PREFIX = "hf-hub:"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model, float32, in eval mode, with what its source says of it.

    Args:
        model_id: 12 hex digits; of a directory's weights file, or else of the weights' values.
        fresh_heads: whether experts, gates and matching head are untrained.
    """

    model: EntityClip
    config: CheckpointConfig
    model_id: str
    fresh_heads: bool = False


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
    try:
        save_file(weights, part)
    except SafetensorError as exc:
        raise OSError(f"{part} cannot be written: {exc}") from exc
    part.chmod(0o644)  # safetensors makes it the owner's alone
    part.replace(folder / WEIGHTS_NAME)
    write_config(folder, config)


def write_config(folder: Path, config: CheckpointConfig) -> None:
    """Replace `config.json` whole or not at all."""
    part = folder / (CONFIG_NAME + ".part")
    part.write_bytes(config.to_json())
    part.replace(folder / CONFIG_NAME)


def load(
    path_or_name: str | Path = TINY, *, experts: ExpertConfig | None = None, seed: int = 0
) -> Checkpoint:
    """Open a model.

    Args:
        path_or_name: a checkpoint directory, `tiny` for the one in this package, `open_clip:NAME/TAG`,
            `open_clip:NAME/FILE` or `hf-hub:ORGANISATION/NAME`. The last three may download.
        experts: of the fresh heads of an open_clip model, 4/4/4 when None; a checkpoint keeps its own.
        seed: of the fresh heads.

    Raises:
        CheckpointError: missing, unreadable, unusable, or out of reach.
    """
    source = str(path_or_name)
    if source.startswith(openclip.PREFIX):
        spec = source.removeprefix(openclip.PREFIX)
        return _fresh(*openclip.load_name(spec, experts or ExpertConfig(), seed))
    folder = _folder(source)
    if _is_open_clip(folder):
        return _fresh(*openclip.load_folder(folder, source, experts or ExpertConfig(), seed))
    config = read_config(folder)
    model = EntityClip(config.architecture)
    weights = read_weights(folder / WEIGHTS_NAME)
    load_exactly(model, weights, f"{folder}: the weights do not fit {CONFIG_NAME}")
    return Checkpoint(model.eval(), config, model_id(folder))


def _fresh(model: EntityClip, config: CheckpointConfig) -> Checkpoint:
    return Checkpoint(model, config, _content_id(model, config), fresh_heads=True)


def resolve(path_or_name: str | Path) -> Path:
    """Return the directory of a checkpoint; `hf-hub:` may download it.

    Raises:
        CheckpointError: there is none.
    """
    source = str(path_or_name)
    if source.startswith(openclip.PREFIX) or _is_open_clip(folder := _folder(source)):
        raise CheckpointError(
            f"{source} is no checkpoint yet: write one with `entityclip convert {source} DIR` and name DIR"
        )
    return folder


def _folder(source: str) -> Path:
    """The directory behind a name, of a checkpoint or of an open_clip model."""
    if source.startswith(HUB_PREFIX):
        return _download(source.removeprefix(HUB_PREFIX))
    folder = packaged(TINY) if source == TINY else Path(source)
    if not _is_open_clip(folder) and not all(
        (folder / name).is_file() for name in (CONFIG_NAME, WEIGHTS_NAME)
    ):
        raise CheckpointError(f"{folder} is no checkpoint: it needs {CONFIG_NAME} and {WEIGHTS_NAME}")
    return folder


def _is_open_clip(folder: Path) -> bool:
    return (folder / openclip.CONFIG_NAME).is_file()


def _download(repository: str) -> Path:
    remedy = hub.elsewhere(repository)
    config = hub.fetch(repository, (openclip.CONFIG_NAME, CONFIG_NAME), remedy)
    if config is None:
        raise CheckpointError(
            f"the hub's repository {repository} holds neither {CONFIG_NAME} nor {openclip.CONFIG_NAME}"
        )
    names = openclip.WEIGHTS_NAMES if config.name == openclip.CONFIG_NAME else (WEIGHTS_NAME,)
    if config.name == CONFIG_NAME:
        read_config(config.parent)  # before the weights of some other kind of model are downloaded
    weights = hub.fetch(repository, names, remedy)
    if weights is None:
        raise CheckpointError(f"the hub's repository {repository} holds none of {', '.join(names)}")
    return weights.parent


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
    """What names the vectors of a checkpoint directory: 12 hex digits.

    Raises:
        CheckpointError: `config.json` is unreadable or invalid.
        OSError: the weights are unreadable.
    """
    digest = _config_digest(read_config(folder))
    with (folder / WEIGHTS_NAME).open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _config_digest(config: CheckpointConfig) -> hashlib._Hash:
    """Begun with the fields that shape vectors; everything else may change under a filled store."""
    shaping = (config.architecture, config.preprocess, config.text)
    return hashlib.sha256(msgspec.json.encode(shaping, order="deterministic"))


def _content_id(model: EntityClip, config: CheckpointConfig) -> str:
    """Like `model_id`, of a model that lies in no directory."""
    digest = _config_digest(config)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
