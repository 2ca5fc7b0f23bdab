"""FlagNews-photo: real flag renderings on real photographs, for evaluation only.

Shows how far a model trained on drawings carries. The pictures belong to the test data
(`ENTITYCLIP_TEST_DATA`) and are not shipped. A photograph may by chance hold another flag; none is removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.flagnews.compose import Photograph, draw_share, load_background, take_photograph

_PHOTO_TAG = 0xF07050  # keeps these random streams apart from others that use the same seed
_PHOTOGRAPH_GROUPS = frozenset({"fsa_owi", "documerica", "landmarks", "nasa"})


@dataclass(frozen=True, slots=True)
class PhotoSources:
    """Where the pictures are: (iso code, path) of each flag, and the path of each photograph."""

    flags: tuple[tuple[str, Path], ...]
    photographs: tuple[Path, ...]


def find_sources(root: Path) -> PhotoSources:
    """Read `pairs.jsonl` under root.

    Raises:
        FileNotFoundError: no such file; the message says how to point to the data.
        ValueError: it lists no flag or no photograph.
    """
    index = root / "pairs.jsonl"
    if not index.is_file():
        raise FileNotFoundError(
            f"no {index}: FlagNews-photo needs the test data, set ENTITYCLIP_TEST_DATA to its folder"
        )
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in index.read_text(encoding="utf-8").splitlines() if line
    ]
    flags = tuple(
        (str(row["entities"][0]["iso"]), root / row["image"]) for row in rows if row["group"] == "flags"
    )
    photographs = tuple(root / row["image"] for row in rows if _is_photograph(row))
    if not flags or not photographs:
        raise ValueError(
            f"{index} lists {len(flags)} flags and {len(photographs)} photographs; both are needed"
        )
    return PhotoSources(flags, photographs)


def photo_sets(root: Path, size: int, seed: int) -> Iterator[tuple[str, Photograph]]:
    """One pool: every flag once, on a photograph of its own choosing; the same seed gives the same pool.

    Yields:
        (ISO code, photograph of side `size`), in the order of `pairs.jsonl`.

    Raises:
        FileNotFoundError, ValueError: as `find_sources`; or a picture cannot be read.
    """
    sources = find_sources(root)
    order = np.random.default_rng([_PHOTO_TAG, seed]).permutation(len(sources.photographs))
    for index, (code, path) in enumerate(sources.flags):
        rng = np.random.default_rng([_PHOTO_TAG, seed, index])
        scene = load_background(sources.photographs[order[index % len(order)]], size)
        with Image.open(path) as image:
            flag = np.asarray(image.convert("RGB"))
        yield code, take_photograph(scene, flag, rng, share=draw_share(rng), size=size)


def _is_photograph(row: dict[str, Any]) -> bool:
    return row["group"] in _PHOTOGRAPH_GROUPS or (row["group"] == "gov_blog" and row.get("kind") == "photo")
