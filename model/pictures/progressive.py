"""Progressive JPEGs that are decoded at a fraction of their size: without the scans that no one will see.

Decoding such a file is nearly all entropy decoding, and a reduced inverse transform looks at few of the 64
coefficients: at 1/8 at the mean of each block, at 1/4 at the lowest frequencies. The other scans may be
missing: the format lets a file end after any of them. Whatever is odd about a file leaves it as it is.

Source: ITU-T T.81, B.2 (markers), G.1.1 (scans of spectral selection and successive approximation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SOI, _EOI, _SOS, _DQT, _SOF2 = 0xD8, 0xD9, 0xDA, 0xDB, 0xC2
_APP0, _APP14 = 0xE0, 0xEE  # JFIF and Adobe: they say which colour space the components are
_TABLES = (0xC4, _DQT, 0xDD)  # Huffman, quantisation, restart interval
_IGNORED = (*range(0xE0, 0xF0), 0xFE)  # applications' data and comments
_MOST_SEGMENTS = 400
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # ends a scan: neither a stuffed byte nor a restart


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is decoded at a scale.

    Args:
        highest: an AC scan whose first coefficient, in zigzag order, lies above this one is dropped.
        finest: an AC scan that refines below this bit is dropped, 0 for the last; 14 for all that refine.
        unseen: a coefficient in zigzag order whose quantiser becomes 0. libjpeg then does not guess what
            the dropped scans held from the blocks around, which would cost more than decoding them.
    """

    highest: int
    finest: int
    unseen: int


# By measured cosine. The inverse transforms of 1x1 and 2x2 do not read coefficient 3 (row 2, column 0);
# that of 4x4 reads 9 (row 3), beyond what is left once the picture is reduced by another 1.5.
_KEPT = {8: _Kept(0, 14, 3), 4: _Kept(4, 14, 3), 2: _Kept(9, 1, 9)}


@dataclass(frozen=True, slots=True)
class _Segment:
    """A marker with its parameters, and the coded data of a scan.

    Args:
        start, parameters, end: offsets into the file.
    """

    marker: int
    start: int
    parameters: int
    end: int


@dataclass(frozen=True, slots=True)
class _Component:
    """A colour plane.

    Args:
        coarseness: of its samples; libjpeg shrinks a plane of half the samples half as much.
        table: number of its quantisation table.
    """

    coarseness: int
    table: int


def without_unseen_scans(data: bytes, shrink: int) -> bytes | None:
    """The file with what a decode at 1/`shrink` reads, for any decoder.

    Metadata (EXIF, ICC) goes too. Reads the markers and skips over the scans; bounded work on any bytes.

    Args:
        data: a file that begins with a JPEG.
        shrink: 1, 2, 4 or 8.

    Returns:
        None where nothing can be dropped, or where the file is not a well-formed progressive JPEG.
    """
    if shrink not in _KEPT:
        return None
    segments = _segments(data)
    components = None if segments is None else _components(data, segments)
    if segments is None or components is None or not _is_legal(data, segments, components):
        return None
    kept = {name: _KEPT.get(shrink // component.coarseness) for name, component in components.items()}
    seen = [segment for segment in segments if segment.marker != _SOS or _is_seen(data, segment, kept)]
    if len(seen) == len(segments):
        return None
    tables = {component.table for component in components.values() if component.coarseness == 1}
    parts = [b"\xff\xd8"]
    for segment in seen:
        if segment.marker == _DQT:
            parts.append(_blinded(data, segment, tables, _KEPT[shrink].unseen))
        elif segment.marker not in _IGNORED or segment.marker in (_APP0, _APP14):
            parts.append(data[segment.start : segment.end])
    return b"".join(parts)


def _segments(data: bytes) -> list[_Segment] | None:
    """From behind the SOI to the EOI; None if that is not all there is, in good order."""
    segments = []
    for segment in _walk(data):
        segments.append(segment)
        if segment.marker == _EOI:
            return segments
        if len(segments) == _MOST_SEGMENTS:
            return None
    return None


def _walk(data: bytes) -> Iterator[_Segment]:
    """Segments as long as each begins where the one before it ends."""
    place = 2
    while place + 1 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _EOI:
            yield _Segment(marker, place, place + 2, place + 2)
            return
        if marker not in (_SOF2, _SOS, *_TABLES, *_IGNORED):
            return
        parameters = place + 4
        end = place + 2 + int.from_bytes(data[place + 2 : parameters], "big")
        if end < parameters or end > len(data):
            return
        if marker == _SOS:
            behind = _MARKER.search(data, end)
            if behind is None:
                return
            end = behind.start()
        yield _Segment(marker, place, parameters, end)
        place = end


def _components(data: bytes, segments: list[_Segment]) -> dict[int, _Component] | None:
    """By name, from the one frame header that stands before all scans; None if there is no such thing."""
    frames = [segment for segment in segments if segment.marker in (_SOF2, _SOS)][:1]
    if sum(segment.marker == _SOF2 for segment in segments) != 1 or frames[0].marker != _SOF2:
        return None
    header = data[frames[0].parameters : frames[0].end]
    count = header[5] if len(header) > 5 else 0
    if not 1 <= count <= 4 or len(header) != 6 + 3 * count:
        return None
    rows = [header[6 + 3 * place : 9 + 3 * place] for place in range(count)]
    across, down = max(row[1] >> 4 for row in rows), max(row[1] & 15 for row in rows)
    if len({row[0] for row in rows}) != count or not all(row[1] >> 4 and row[1] & 15 for row in rows):
        return None
    return {row[0]: _Component(min(across // (row[1] >> 4), down // (row[1] & 15)), row[2]) for row in rows}


def _is_legal(data: bytes, segments: list[_Segment], components: dict[int, _Component]) -> bool:
    """Whether a decoder takes every scan without a complaint about its header, so that none is missed."""
    bits: dict[tuple[int, int], int] = {}  # the lowest bit known, by component and coefficient
    names = bytes(components)
    scans = [segment for segment in segments if segment.marker == _SOS]
    return all(_continues(data, scan, names, bits) for scan in scans) and all(
        (name, 0) in bits for name in names
    )


def _continues(data: bytes, scan: _Segment, names: bytes, bits: dict[tuple[int, int], int]) -> bool:
    """Whether a scan adds to what `bits` says is known; `bits` then says so."""
    if scan.end < scan.parameters + 6:
        return False
    count = data[scan.parameters]
    length = int.from_bytes(data[scan.start + 2 : scan.parameters], "big")
    if not 1 <= count <= len(names) or length != 6 + 2 * count:
        return False
    chosen = data[scan.parameters + 1 : scan.parameters + 1 + 2 * count : 2]
    first, last, before, low = _selection(data, scan)
    if len(set(chosen)) != count or not set(chosen) <= set(names):
        return False
    if not (first == last == 0 or (count == 1 and 1 <= first <= last <= 63)) or low > 13:
        return False
    for name in chosen:
        if first and (name, 0) not in bits:
            return False
        for coefficient in range(first, last + 1):
            known = bits.get((name, coefficient), 0)
            if (
                before != known
                or (before and low != before - 1)
                or (not before and (name, coefficient) in bits)
            ):
                return False
            bits[name, coefficient] = low
    return True


def _selection(data: bytes, scan: _Segment) -> tuple[int, int, int, int]:
    """First and last coefficient, the bit that was known before and the one that will be: Ss, Se, Ah, Al."""
    place = scan.parameters + 1 + 2 * data[scan.parameters]
    return data[place], data[place + 1], data[place + 2] >> 4, data[place + 2] & 15


def _is_seen(data: bytes, scan: _Segment, kept: dict[int, _Kept | None]) -> bool:
    first, _, before, low = _selection(data, scan)
    wanted = kept[data[scan.parameters + 1]]
    return not first or wanted is None or (first <= wanted.highest and not (before and low < wanted.finest))


def _blinded(data: bytes, segment: _Segment, tables: set[int], unseen: int) -> bytes:
    """Quantisation tables; those of these numbers with a 0 for the coefficient that is not looked at."""
    changed = bytearray(data[segment.start : segment.end])
    place = 4
    while place < len(changed):
        width = 2 if changed[place] >> 4 else 1
        value = place + 1 + unseen * width
        if value + width > len(changed):
            break
        if changed[place] & 15 in tables:
            changed[value : value + width] = bytes(width)
        place += 1 + 64 * width
    return bytes(changed)
