"""News of our own: FlagNews drawings with their captions and explanations, one flag a piece of news."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.flagnews.captions import caption
from model.flagnews.compose import take_photograph
from model.flagnews.entities import Entity, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.scenes import scene_bank
from model.flagnews.shapes import render_flag

_SECTIONS = ("World", "Sports", "Travel")
_SHARE = 0.12  # of the picture: the flag is easy to see


@dataclass(frozen=True, slots=True)
class News:
    """One picture with what is written about it.

    Args:
        name: of the entity; `look` is its flag, no two in a list share one.
        jpeg: the picture's file.
    """

    name: str
    look: int
    caption: str
    explanation: str
    section: str
    jpeg: bytes


@lru_cache(maxsize=16)
def draw_news(count: int, seed: int = 0, size: int = 96) -> tuple[News, ...]:
    """Draw `count` news of different flags, pictures of `size` x `size` pixels; the same ones every time.

    Raises:
        ValueError: there are not that many looks.
    """
    by_look = {entity.look: entity for entity in reversed(real_entities())}
    if count > len(by_look):
        raise ValueError(f"there are only {len(by_look)} looks, not {count}")
    chosen = np.random.default_rng([0xDA7A, seed]).permutation(sorted(by_look))[:count]
    scenes = scene_bank("train", count, size * 4 // 3, seed)  # one each: pictures of a scene look alike
    return tuple(
        _draw_one(by_look[int(look)], scene, number, seed)
        for number, (look, scene) in enumerate(zip(chosen, scenes, strict=True))
    )


def _draw_one(entity: Entity, scene: NDArray[np.uint8], number: int, seed: int) -> News:
    rng = np.random.default_rng([0xDA7A, seed, number])
    photograph = take_photograph(
        scene, render_flag(entity.spec, 64), rng, share=_SHARE, size=len(scene) * 3 // 4
    )
    paraphrases = explanations(entity, "train")
    return News(
        name=entity.name,
        look=entity.look,
        caption=caption(entity.name, rng, "train"),
        explanation=paraphrases[number % len(paraphrases)],
        section=_SECTIONS[number % len(_SECTIONS)],
        jpeg=_jpeg(photograph.pixels),
    )


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()
