"""The entities of FlagNews: real countries and invented places, their looks, and folds over the looks.

A *look* is what can be told apart in a small photograph: flags drawn alike, or nearly alike, share one look
and count as one answer. Looks of real flags are numbered from 0, of invented ones from `FIRST_INVENTED_LOOK`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.flagnews.countries import country_lines
from model.flagnews.grammar import parse
from model.flagnews.invented import FlagSampler, invented_names
from model.flagnews.layers import FlagSpec
from model.flagnews.shapes import render_flag

FIRST_INVENTED_LOOK = 10_000

# Root mean square colour distance (0 to 1) of two flags at 24 x 16 pixels below which a 96 px photograph, in
# which a flag is 10 to 40 pixels high and folded, shaded and blurred, is not asked to tell them apart.
SAME_LOOK_DISTANCE = 0.08

# Drawn differently enough, but the public renderings lie within 0.09 of each other.
SAME_LOOK_CODES = (
    ("HN", "NI"),
    ("NI", "SV"),
    ("EG", "IQ"),
    ("EG", "YE"),
    ("SY", "YE"),
    ("SH", "TC"),
    ("KY", "VG"),
    ("NL", "PY"),
)

# Words that say nothing about which place is meant.
GENERIC_WORDS = frozenset({
    "and", "the", "of", "us", "uk", "dr", "islands", "island", "republic", "saint", "new", "north", "south",
    "east", "west", "northern", "southern", "eastern", "western", "central", "united", "states", "kingdom",
    "federation", "union", "upper", "lower", "grand", "coast", "territory", "territories", "city",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entity:
    """A named place and its flag; `code` is ISO alpha-2 (or a subdivision), None for invented places."""

    name: str
    spec: FlagSpec
    code: str | None
    look: int


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[H, W, 3] uint8 -> [1152] float32 in 0..1: the flag at 24 x 16, in which looks are compared."""
    small = Image.fromarray(pixels).resize((24, 16), Image.Resampling.BOX)
    return (np.asarray(small, dtype=np.float32) / 255.0).ravel()


def look_distances(thumbnails: NDArray[np.float32], one: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 1152], [1152] -> [N]: root mean square colour distance, 0 to 1."""
    distances: NDArray[np.float32] = np.sqrt(np.mean((thumbnails - one) ** 2, axis=1))
    return distances


@lru_cache(maxsize=1)
def real_entities() -> tuple[Entity, ...]:
    """Every country and territory of the table, looks merged, in the order of the table."""
    lines = country_lines()
    specs = [parse(spec) for _, _, spec in lines]
    index = {code: i for i, (code, _, _) in enumerate(lines)}
    thumbnails = _thumbnails(specs)
    pairs = [
        (i, j)
        for i in range(len(specs))
        for j in np.flatnonzero(look_distances(thumbnails, thumbnails[i]) < SAME_LOOK_DISTANCE).tolist()
    ]
    pairs += [(index[a], index[b]) for a, b in SAME_LOOK_CODES]
    looks = _components(len(specs), pairs)
    return tuple(
        Entity(name, spec, code, look)
        for (code, name, _), spec, look in zip(lines, specs, looks, strict=True)
    )


@lru_cache(maxsize=8)
def invented_entities(count: int = 2000, seed: int = 0) -> tuple[Entity, ...]:
    """Invented places: flags and names unlike each other's and unlike every real one.

    Takes about two milliseconds an entity, once a process.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"the number of invented entities must not be negative, not {count}")
    rng = np.random.default_rng([20_250, seed])
    sampler = FlagSampler(rng)
    names = invented_names(rng, frozenset(word for e in real_entities() for word in content_words(e.name)))
    taken = _thumbnails([e.spec for e in real_entities()])
    size = len(taken)
    taken = np.concatenate([taken, np.zeros((count, taken.shape[1]), dtype=np.float32)])
    entities: list[Entity] = []
    while len(entities) < count:
        spec = parse(sampler.specification())
        candidate = thumbnail(render_flag(spec, 32))
        filled = size + len(entities)
        if look_distances(taken[:filled], candidate).min() < SAME_LOOK_DISTANCE:
            continue
        taken[filled] = candidate
        entities.append(Entity(next(names), spec, None, FIRST_INVENTED_LOOK + len(entities)))
    return tuple(entities)


def content_words(name: str) -> frozenset[str]:
    """The words of a name that tell places apart, lower case: {"guinea", "bissau"} for Guinea-Bissau."""
    return frozenset(word for word in re.findall(r"[^\W\d_]+", name.lower()) if word not in GENERIC_WORDS)


def share_content_word(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether a word is in both, or (five letters or more) begins one of the other: Niger, Nigeria."""
    return any(
        a == b or (min(len(a), len(b)) >= 5 and (a.startswith(b) or b.startswith(a)))
        for a in one
        for b in other
    )


def folds(entities: Sequence[Entity], count: int = 5, seed: int = 0) -> dict[int, int]:
    """Assign looks to folds of nearly equal size.

    Looks whose names share a content word fall in the same fold: what is held out is unseen by name and look.

    Returns:
        look -> fold, 0 <= fold < count.

    Raises:
        ValueError: fewer than one fold.
    """
    if count < 1:
        raise ValueError(f"need at least one fold, not {count}")
    looks = sorted({e.look for e in entities})
    place = {look: i for i, look in enumerate(looks)}
    pairs = [(place[a.look], place[b.look]) for a, b in _namesakes(entities)]
    groups: dict[int, list[int]] = {}
    for look, group in zip(looks, _components(len(looks), pairs), strict=True):
        groups.setdefault(group, []).append(look)
    order = np.random.default_rng([7, seed]).permutation(len(groups))
    shuffled = [list(groups.values())[i] for i in order]
    sizes = [0] * count
    assigned: dict[int, int] = {}
    for group_looks in sorted(shuffled, key=len, reverse=True):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(group_looks)
        assigned.update(dict.fromkeys(group_looks, fold))
    return assigned


def _namesakes(entities: Sequence[Entity]) -> list[tuple[Entity, Entity]]:
    """Pairs whose names share a content word; candidates are found by the words' first letters."""
    words = {e.name: content_words(e.name) for e in entities}
    buckets: dict[str, list[Entity]] = {}
    for entity in entities:
        for start in sorted({word[:5] for word in words[entity.name]}):
            buckets.setdefault(start, []).append(entity)
    return [
        (a, b) for bucket in buckets.values() for a, b in combinations(bucket, 2)
        if share_content_word(words[a.name], words[b.name])
    ]  # fmt: skip


def _thumbnails(specs: Sequence[FlagSpec]) -> NDArray[np.float32]:
    return np.stack([thumbnail(render_flag(spec, 32)) for spec in specs])  # [N, 1152]


def _components(size: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Number the connected components of `size` items, in the order of their first item."""
    parent = list(range(size))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(size)]
