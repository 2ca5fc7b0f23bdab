"""Near-duplicate pictures: a 192-bit look of every picture, and an exact search for looks that are near.

A resized, recompressed or slightly retouched copy keeps nearly all of its look. Crops, mirror images and
copies without colour are not found. The search splits 64 bits into four bands: of two numbers that differ in
at most r bits, at least one band differs in at most r / 4, so only looks with such a band are compared.

Sources: difference hash, N. Krawetz, "Kind of Like That" (2013); bands, M. Norouzi et al., "Fast Search in
Hamming Space with Multi-Index Hashing" (CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Look = tuple[int, int, int]
Looks = NDArray[np.uint64]

RADIUS = 7  # bits of 64 that may differ, in each half of the difference hash
COLOUR_RADIUS = 12  # of 255, by which the mean colour of a quarter of the picture may differ

_SIDE = 8
_VISIBLE = 2  # grey levels between neighbours that are more than noise
_LEAST_VISIBLE = 24  # of the 64 differences; plainer pictures have no look, they would all be alike
_BAND_BITS = 16
_PAIRS_AT_ONCE = 1 << 20  # bounds the memory of a comparison, about 100 MB


def look_of(image: Image.Image) -> Look | None:
    """Where a picture gets brighter from left to right, and from top to bottom, and its colours.

    Args:
        image: RGB.

    Returns:
        Three numbers of 64 bits: a bit a difference of an 8 × 8 grid, twice, and a byte each for Cb and Cr of
        the four quarters. None where too few of the differences are more than noise.
    """
    luma, *chroma = image.convert("YCbCr").resize((_SIDE * 9, _SIDE * 9), Image.Resampling.BOX).split()
    across = _differences(luma, (_SIDE + 1, _SIDE), axis=1)  # [8, 8]
    down = _differences(luma, (_SIDE, _SIDE + 1), axis=0)  # [8, 8]
    if min(_visible(across), _visible(down)) < _LEAST_VISIBLE:
        return None
    colours = b"".join(plane.resize((2, 2), Image.Resampling.BOX).tobytes() for plane in chroma)
    return _bits(across), _bits(down), int.from_bytes(colours, "big")


def _differences(grey: Image.Image, size: tuple[int, int], axis: int) -> NDArray[np.int16]:
    small = np.asarray(grey.resize(size, Image.Resampling.BOX), dtype=np.int16)
    return np.diff(small, axis=axis)


def _visible(differences: NDArray[np.int16]) -> int:
    return int(np.count_nonzero(np.abs(differences) >= _VISIBLE))


def _bits(differences: NDArray[np.int16]) -> int:
    return int.from_bytes(np.packbits(differences > 0).tobytes(), "big")


def nearest_looks(queries: Looks, index: Looks, radius: int = RADIUS) -> NDArray[np.int64]:
    """Find the nearest look of an index for each query, exactly.

    Two looks are near when they differ in at most `radius` bits of either half and by at most `COLOUR_RADIUS`
    in every colour.

    Args:
        queries: [N, 3] uint64.
        index: [M, 3] uint64.
        radius: 0 to 11; from 4 and from 8 on the search takes longer by an order of magnitude each.

    Returns:
        [N] int64, row of the index with the fewest differing bits, of several the first; -1 for none.
    """
    none = np.iinfo(np.int64).max
    best = np.full(len(queries), none, np.int64)  # distance · M + row
    for shift in range(0, 64, _BAND_BITS):
        keys = _band(index, shift)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        wanted = _band(queries, shift)
        for flips in _flips(radius // (64 // _BAND_BITS)):
            starts = np.searchsorted(keys, wanted ^ flips, "left")
            counts = np.searchsorted(keys, wanted ^ flips, "right") - starts
            for begin, end in _chunks(counts):
                rows, places = _expand(starts, counts, begin, end)
                _compare(queries, index, rows, order[places], radius, best)
    return np.where(best == none, -1, best % max(1, len(index)))


def _band(looks: Looks, shift: int) -> NDArray[np.uint16]:
    return (looks[:, 0] >> np.uint64(shift)).astype(np.uint16)


def _flips(most: int) -> Iterator[np.uint16]:
    """All patterns of at most so many of a band's bits."""
    for count in range(most + 1):
        for bits in combinations(range(_BAND_BITS), count):
            yield np.uint16(sum(1 << bit for bit in bits))


def _chunks(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of queries with at most `_PAIRS_AT_ONCE` candidates in all; a single query may have more."""
    total = np.concatenate([[0], np.cumsum(counts)])
    edges = [0]
    while edges[-1] < len(counts):
        end = int(np.searchsorted(total, total[edges[-1]] + _PAIRS_AT_ONCE, "right")) - 1
        edges.append(max(edges[-1] + 1, end))
    return pairwise(edges)


def _expand(
    starts: NDArray[np.int64], counts: NDArray[np.int64], begin: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every query of a range with each place from its start on. Two of [P] int64."""
    lengths = counts[begin:end]
    rows = np.repeat(np.arange(begin, end), lengths)
    first = np.cumsum(lengths) - lengths
    return rows, np.arange(len(rows)) + np.repeat(starts[begin:end] - first, lengths)


def _compare(
    queries: Looks,
    index: Looks,
    rows: NDArray[np.int64],
    candidates: NDArray[np.int64],
    radius: int,
    best: NDArray[np.int64],
) -> None:
    """Compare P pairs and keep what is better in `best`."""
    bits = np.bitwise_count(queries[rows, :2] ^ index[candidates, :2]).astype(np.int64)  # [P, 2]
    near = (bits <= radius).all(axis=1)
    rows, candidates, distance = rows[near], candidates[near], bits[near].sum(axis=1)
    near = _same_colours(queries[rows, 2], index[candidates, 2])
    np.minimum.at(best, rows[near], distance[near] * len(index) + candidates[near])


def _same_colours(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """[P], [P] uint64 -> [P] bool."""
    a, b = (side.view(np.uint8).reshape(-1, 8).astype(np.int16) for side in (left, right))
    same: NDArray[np.bool_] = (np.abs(a - b) <= COLOUR_RADIUS).all(axis=1)
    return same
