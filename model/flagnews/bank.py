"""A bank of FlagNews pictures on disk, drawn once by all processors and read by memory map.

The bank depends on nothing but its `BankConfig` and the generator's source, whose hash is part of the
folder's name: a changed generator never reads an old bank.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.flagnews import compose, scenes, shapes
from model.flagnews.entities import Entity, invented_entities, real_entities
from model.flagnews.scenes import Split

_READERS = frozenset({"bank.py", "pools.py", "training_set.py", "photo.py"})  # they draw nothing themselves
_CHUNK = 256  # pictures a task: about a second of work
_FEW_CHUNKS = 2
_Chunk = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]  # pixels, entity, share
_FLAG_HEIGHT = 64
_SCENE_SCALE = 4 / 3  # scenes are drawn larger than the picture, which shows a part of one


@dataclass(frozen=True, slots=True)
class BankConfig:
    """What is drawn.

    Args:
        split: scenes and seeds of the two splits are disjoint.
        real: pictures of real entities; they go round them, so each gets the same number to within one.
        size: side of a picture, pixels.
        invented_entities: how many invented entities there are.
        invented: pictures of them, behind the real ones.
        scenes: how many scenes are drawn as backgrounds.
        seed: of everything.
    """

    split: Split
    real: int
    size: int = 96
    invented_entities: int = 0
    invented: int = 0
    scenes: int = 1200
    seed: int = 0

    @property
    def count(self) -> int:
        """Pictures in all."""
        return self.real + self.invented

    @property
    def name(self) -> str:
        """Folder name: readable facts and the hash of the rest."""
        facts = json.dumps([asdict(self), generator_hash()], sort_keys=True)
        digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
        return f"flagnews-{self.split}-{self.size}px-{self.count}-{digest}"


@dataclass(frozen=True, slots=True)
class PictureBank:
    """Drawn pictures.

    Args:
        pixels: [N, S, S, 3] uint8, memory-mapped.
        entity: [N] int64, index into `entities`.
        share: [N] float32, part of the picture that the flag takes.
        entities: the real ones, then the invented ones.
    """

    pixels: NDArray[np.uint8]
    entity: NDArray[np.int64]
    share: NDArray[np.float32]
    entities: tuple[Entity, ...]

    @property
    def looks(self) -> NDArray[np.int64]:
        """The look of every picture. [N] int64."""
        return np.array([entity.look for entity in self.entities], dtype=np.int64)[self.entity]


@lru_cache(maxsize=1)
def generator_hash() -> str:
    """Hash of the generator's source: 12 hex digits that stand in every result."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name in _READERS:
            continue
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def bank_entities(invented: int) -> tuple[Entity, ...]:
    """The entities of a bank, in its order."""
    return real_entities() + (invented_entities(invented) if invented else ())


def load_bank(
    config: BankConfig, cache: Path, on_progress: Callable[[int], None] | None = None
) -> PictureBank:
    """Open a bank, drawing it first if the cache has none.

    Args:
        cache: folder of banks; an interrupted drawing leaves nothing behind that would be read.
        on_progress: called with the number of pictures just drawn.
    """
    folder = cache / config.name
    if not (folder / "index.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _draw(config, folder, on_progress)
    index = np.load(folder / "index.npz")
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return PictureBank(pixels, index["entity"], index["share"], bank_entities(config.invented_entities))


def _draw(config: BankConfig, folder: Path, on_progress: Callable[[int], None] | None) -> None:
    shape = (config.count, config.size, config.size, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    entity, share = np.zeros(config.count, np.int64), np.zeros(config.count, np.float32)
    starts = range(0, config.count, _CHUNK)
    for start, (drawn, of, shares) in zip(starts, _drawn(config, starts), strict=True):
        stop = start + len(drawn)
        pixels[start:stop], entity[start:stop], share[start:stop] = drawn, of, shares
        if on_progress is not None:
            on_progress(len(drawn))
    pixels.flush()
    # written last and moved into place: its presence says that the bank is whole
    np.savez(folder / "index.part.npz", entity=entity, share=share)
    (folder / "index.part.npz").replace(folder / "index.npz")


def _drawn(config: BankConfig, starts: range) -> Iterator[_Chunk]:
    """The chunks in order; a few are drawn here, sooner than a process has started."""
    if len(starts) <= _FEW_CHUNKS:
        yield from (_draw_chunk(config, start) for start in starts)
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_chunk, [config] * len(starts), starts)


def _draw_chunk(config: BankConfig, start: int) -> _Chunk:
    backgrounds, real = _scenes(config), len(real_entities())
    indices = np.arange(start, min(start + _CHUNK, config.count))
    turn = (indices - config.real) % max(1, config.invented_entities)
    of = np.where(indices < config.real, indices % real, real + turn)
    pixels = np.empty((len(indices), config.size, config.size, 3), np.uint8)
    shares = np.empty(len(indices), np.float32)
    for row, (index, entity) in enumerate(zip(indices, of, strict=True)):
        rng = np.random.default_rng([config.seed, _SPLIT_SEED[config.split], int(index)])
        scene = backgrounds[int(rng.integers(len(backgrounds)))]
        flag = _flag(config.invented_entities, int(entity))
        photograph = compose.take_photograph(
            scene, flag, rng, share=compose.draw_share(rng), size=config.size
        )
        pixels[row], shares[row] = photograph.pixels, photograph.share
    return pixels, of.astype(np.int64), shares


_SPLIT_SEED: dict[Split, int] = {"train": 1, "test": 2}


@lru_cache(maxsize=2)
def _scenes(config: BankConfig) -> list[NDArray[np.uint8]]:
    return scenes.scene_bank(config.split, config.scenes, round(config.size * _SCENE_SCALE), config.seed)


@lru_cache(maxsize=4096)
def _flag(invented: int, entity: int) -> NDArray[np.uint8]:
    return shapes.render_flag(_entities(invented)[entity].spec, _FLAG_HEIGHT)


_entities = lru_cache(maxsize=2)(bank_entities)
