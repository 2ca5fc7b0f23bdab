"""Looks of pictures: copies are near, other pictures are not, and the search is exact."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from model.data.near_duplicates import COLOUR_RADIUS, RADIUS, Looks, look_of, nearest_looks
from tests.datasets.pictures import draw_news

_BITS = 64


def brute_force(queries: Looks, index: Looks, radius: int) -> list[int]:
    """Every pair, one after the other."""
    found = []
    for query in queries.tolist():
        near = []
        for row, other in enumerate(index.tolist()):
            across, down = ((query[half] ^ other[half]).bit_count() for half in (0, 1))
            colours = zip(query[2].to_bytes(8, "big"), other[2].to_bytes(8, "big"), strict=True)
            if max(across, down) <= radius and all(abs(a - b) <= COLOUR_RADIUS for a, b in colours):
                near.append((across + down, row))
        found.append(min(near, default=(0, -1))[1])
    return found


def random_looks(count: int, rng: np.random.Generator) -> Looks:
    return rng.integers(0, 2**64, (count, 3), dtype=np.uint64)


def altered(look: list[int], flips: int, rng: np.random.Generator) -> list[int]:
    """Another look with so many bits of each half flipped, and slightly other colours."""
    halves = [
        half ^ sum(1 << bit for bit in rng.choice(_BITS, flips, replace=False).tolist()) for half in look[:2]
    ]
    shifts = rng.integers(-COLOUR_RADIUS - 1, COLOUR_RADIUS + 2, 8)
    colours = (np.frombuffer(look[2].to_bytes(8, "big"), np.uint8) + shifts).clip(0, 255).astype(np.uint8)
    return [*halves, int.from_bytes(colours.tobytes(), "big")]


@pytest.mark.parametrize("radius", [0, 3, 4, RADIUS, 8])
def test_the_search_finds_what_comparing_every_pair_finds(radius: int) -> None:
    rng = np.random.default_rng(radius)
    index = random_looks(60, rng)
    index[40:50] = index[:10]  # ties
    planted = [
        altered(index[int(rng.integers(60))].tolist(), int(rng.integers(radius + 3)), rng) for _ in range(250)
    ]
    queries = np.concatenate([np.array(planted, np.uint64), random_looks(30, rng)])
    expected = brute_force(queries, index, radius)
    assert nearest_looks(queries, index, radius).tolist() == expected
    assert -1 in expected
    assert len(set(expected)) > 10


def test_many_looks_that_share_a_band_are_compared_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.near_duplicates._PAIRS_AT_ONCE", 50)
    rng = np.random.default_rng(5)
    index = random_looks(40, rng)
    index[:, 0] &= np.uint64(0xFF)  # three of four bands are zero everywhere
    queries = np.array([altered(look, 1, rng) for look in index.tolist() for _ in range(3)], np.uint64)
    assert nearest_looks(queries, index).tolist() == brute_force(queries, index, RADIUS)


@pytest.mark.parametrize(("queries", "index"), [(0, 0), (0, 3), (3, 0)])
def test_without_looks_on_a_side_nothing_is_found(queries: int, index: int) -> None:
    rng = np.random.default_rng(0)
    assert nearest_looks(random_looks(queries, rng), random_looks(index, rng)).tolist() == [-1] * queries


def pictures(count: int) -> list[Image.Image]:
    return [Image.open(io.BytesIO(news.jpeg)).convert("RGB") for news in draw_news(count, size=192)]


def recompressed(picture: Image.Image) -> Image.Image:
    small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    ImageEnhance.Brightness(small).enhance(1.05).save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def looks(some: list[Image.Image]) -> Looks:
    return np.array([look_of(picture) for picture in some], np.uint64)


def test_a_smaller_brighter_recompressed_copy_is_found() -> None:
    originals = pictures(12)
    copies = [recompressed(picture) for picture in originals]
    assert nearest_looks(looks(copies), looks(originals)).tolist() == list(range(12))


def test_different_pictures_are_not_near() -> None:
    some = looks(pictures(12))
    for one in range(12):
        assert nearest_looks(some[[one]], np.delete(some, one, axis=0)).tolist() == [-1]


def test_the_same_shapes_in_other_colours_are_another_picture() -> None:
    original = pictures(1)[0]
    red, green, blue = original.split()
    swapped = Image.merge("RGB", (blue, green, red))
    assert nearest_looks(looks([swapped]), looks([original])).tolist() == [-1]


@pytest.mark.parametrize("size", [(2, 2), (100, 100), (3, 900)])
def test_a_plain_picture_has_no_look(size: tuple[int, int]) -> None:
    assert look_of(Image.new("RGB", size, (200, 30, 30))) is None


def test_a_gradient_in_one_direction_has_no_look() -> None:
    ramp = np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (96, 1))
    assert look_of(Image.fromarray(ramp).convert("RGB")) is None
