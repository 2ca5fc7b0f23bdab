"""Image tokens of a locked tower, computed once for every stored picture of a split.

OUT/cache/image-tokens.npy    [M, N, D] float16
OUT/cache/image-tokens.json   what they were computed from
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from model import backbone as towers
from model.config import PreprocessConfig
from model.data.prepared import PreparedSplit
from model.entityclip import EntityClip
from model.serving.encoder import Encoder
from model.world import World

_NAME = "image-tokens"
_PICTURES_AT_ONCE = 128


class ImageTokenCache:
    """Tokens of stored pictures by their index. Thread-safe; the file is mapped, not read.

    Args:
        path: a file of this module.
    """

    def __init__(self, path: Path) -> None:
        self._tokens: NDArray[np.float16] = np.load(path, mmap_mode="r")

    def __call__(self, image_index: NDArray[np.int64]) -> Tensor:
        """Return tokens. [B] -> [B, N, D] float16 on the CPU."""
        return torch.from_numpy(np.asarray(self._tokens[image_index]))


def open_image_cache(
    folder: Path, model: EntityClip, split: PreparedSplit, preprocess: PreprocessConfig, device: str
) -> ImageTokenCache:
    """Open the cache of a split's image tokens, computing it where it is missing or of something else.

    Args:
        folder: usually `OUT/cache`.
        model: put into eval mode and moved to the device.
    """
    path, facts_path = folder / f"{_NAME}.npy", folder / f"{_NAME}.json"
    facts = {
        "split": split.fingerprint,
        "tower": _digest(model),
        "preprocess": msgspec.to_builtins(preprocess),
    }
    wanted = msgspec.json.encode(facts, order="deterministic")
    if not (path.exists() and facts_path.exists() and facts_path.read_bytes() == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        facts_path.unlink(missing_ok=True)
        _write(path, model, split, preprocess, device)
        facts_path.write_bytes(wanted)
    return ImageTokenCache(path)


def shared_image_cache(
    folder: Path,
    model: EntityClip,
    split: PreparedSplit,
    preprocess: PreprocessConfig,
    device: str,
    world: World,
) -> ImageTokenCache:
    """The same for all ranks: the first one computes, the others wait."""
    with world.in_turn():
        return open_image_cache(folder, model, split, preprocess, device)


def _write(
    path: Path, model: EntityClip, split: PreparedSplit, preprocess: PreprocessConfig, device: str
) -> None:
    encoder = Encoder(model, preprocess, device=device)  # moved in inference mode, it could not be trained
    vision = model.config.vision
    tokens = 1 + (vision.image_size // vision.patch_size) ** 2
    part = path.with_suffix(".part")
    stored = np.lib.format.open_memmap(
        part, mode="w+", dtype=np.float16, shape=(split.image_count, tokens, model.config.embed_dim)
    )
    progress = tqdm(total=split.image_count, unit="picture", desc="image tokens", disable=None)
    with progress as bar, torch.inference_mode():
        for start in range(0, split.image_count, _PICTURES_AT_ONCE):
            index = np.arange(start, min(start + _PICTURES_AT_ONCE, split.image_count))
            pixels = split.pixels(index, encoder.image_size, preprocess.resize_mode)
            encoded = towers.image_tokens(model.backbone, encoder.image_tensor(pixels))
            stored[index] = encoded.half().cpu().numpy()
            bar.update(len(index))
    stored.flush()
    part.replace(path)


def _digest(model: EntityClip) -> str:
    """Hash of the image tower's weights: 16 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.backbone.visual.state_dict().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
