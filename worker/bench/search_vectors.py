"""Vectors to search among: drawn ones, or real short texts and FlagNews pictures by one checkpoint."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.checkpoint import load
from model.flagnews.bank import BankConfig, PictureBank
from model.flagnews.captions import caption
from model.flagnews.entities import real_entities
from model.flagnews.explanations import explanations
from model.serving.encoder import Encoder
from model.training.flagnews_run import default_cache, open_bank
from model.training.recipe import load_recipe

Vectors = NDArray[np.float32]
_CHUNK = 512
_FEW = 2000
_CLUSTER = 25  # images, and texts, of one cluster


@dataclass(frozen=True, slots=True)
class SearchVectors:
    """What is stored and what is asked; no query is stored.

    Args:
        images: [I, D] float32, L2-normalised, of FlagNews pictures.
        texts: [T, D] float32, L2-normalised, of real texts.
        queries: name of the direction -> [Q, D]; names that end in `image` are searched among the images.
    """

    images: Vectors
    texts: Vectors
    queries: dict[str, Vectors]


def drawn_vectors(dim: int, each: int, queries: int) -> SearchVectors:
    """Vectors in clusters, as entities make them: the same clusters for images, texts and queries.

    Args:
        dim: of a vector.
        each: images and texts that are stored.
        queries: of each direction.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, each // _CLUSTER), dim), np.float32)

    def draw(count: int) -> Vectors:
        chosen = centres[rng.integers(len(centres), size=count)]
        return _unit(chosen + rng.standard_normal((count, dim), np.float32))

    return SearchVectors(draw(each), draw(each), {"text→image": draw(queries), "image→text": draw(queries)})


def _unit(vectors: Vectors) -> Vectors:
    normalised: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


def encoded_vectors(
    model: str, data: Path, each: int, queries: int, cache: Path | None = None
) -> SearchVectors:
    """Read the vectors from the cache, or encode them.

    Args:
        model: a checkpoint's folder, or `tiny`.
        data: folder that holds `load/texts.jsonl.gz`.
        each: pictures and texts that are stored; as many texts as there are, if fewer.
        queries: of each direction.

    Raises:
        FileNotFoundError: no such texts.
    """
    checkpoint = load(model)
    folder = cache or default_cache()
    path = folder / f"search-{checkpoint.model_id}-{each}-{queries}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = _encode(Encoder.of(checkpoint), data, each, queries, folder)
        part = path.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **made)
        part.replace(path)  # its presence says that it is whole
    stored = dict(np.load(path))
    return SearchVectors(stored.pop("images"), stored.pop("texts"), stored)


def _encode(encoder: Encoder, data: Path, each: int, queries: int, cache: Path) -> dict[str, Vectors]:
    texts = read_texts(data)
    if len(texts) <= queries:
        raise ValueError(f"{len(texts)} texts are too few for {queries} queries")
    texts = [texts[place] for place in np.random.default_rng(0).permutation(len(texts))]
    bank = _bank(encoder.image_size, each + queries, cache)
    if len(bank.entity) < each + queries:
        raise ValueError(f"{len(bank.entity)} pictures are too few for {each} and {queries} queries")
    places = np.random.default_rng(1).permutation(len(bank.entity))[: each + queries]
    images = _encoded("pictures", places, lambda part: encoder.encode_images(bank.pixels[part]))
    captions, described = _captions(queries)
    return {
        "images": images[queries:],
        "texts": _texts(encoder, texts[queries:][:each]),
        "text→image": _texts(encoder, texts[:queries]),
        "caption→image": encoder.encode_texts(captions, described),
        "image→text": images[:queries],
    }


def read_texts(data: Path) -> list[str]:
    """The texts of `load/texts.jsonl.gz`."""
    with gzip.open(data / "load" / "texts.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def _captions(count: int) -> tuple[list[str], list[str]]:
    """Captions of real entities in the test split's words, each with its explanation."""
    rng = np.random.default_rng(2)
    chosen = [real_entities()[place] for place in rng.integers(len(real_entities()), size=count)]
    options = [explanations(entity, "test") for entity in chosen]
    return (
        [caption(entity.name, rng, "test") for entity in chosen],
        [texts[int(rng.integers(len(texts)))] for texts in options],
    )


def _bank(size: int, wanted: int, cache: Path) -> PictureBank:
    """The pictures that `tiny` was trained on, likely in the cache; few are drawn apart."""
    facts = load_recipe("tiny").flagnews
    if wanted <= _FEW:
        return open_bank(BankConfig("train", wanted, size, scenes=50, seed=facts.seed), cache)
    config = BankConfig(
        "train", facts.real_pictures, size, facts.invented_entities, facts.invented_pictures, seed=facts.seed
    )
    return open_bank(config, cache)


def _texts(encoder: Encoder, texts: list[str]) -> Vectors:
    return _encoded(
        "texts", np.arange(len(texts)), lambda part: encoder.encode_texts([texts[place] for place in part])
    )


def _encoded(name: str, places: NDArray[np.int64], encode: Callable[[NDArray[np.int64]], Vectors]) -> Vectors:
    starts = tqdm(range(0, len(places), _CHUNK), desc=f"encoding {name}", unit="chunk", disable=None)
    return np.concatenate([encode(places[start : start + _CHUNK]) for start in starts])
