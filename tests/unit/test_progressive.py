"""Progressive JPEGs without the scans that a shrunk decode does not look at."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.pictures.decode import ImageError, decode_picture
from model.pictures.progressive import without_unseen_scans
from tests import hostile

_KINDS = [("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0), ("CMYK", 0)]


def scenery(width: int = 517, height: int = 389) -> NDArray[np.uint8]:
    """Slopes, edges and some grain, as a photograph has them. [height, width, 3]."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([rows + columns, 2 * rows - columns, columns * 1.5], axis=2) / 37
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    disc = ((rows - height / 2) ** 2 + (columns - width / 3) ** 2 < 80**2)[:, :, None] * 60
    picture: NDArray[np.uint8] = np.clip(110 + 60 * np.sin(waves) + grain + disc, 0, 255).astype(np.uint8)
    return picture


def progressive(mode: str = "RGB", subsampling: int = 2, quality: int = 85, **options: Any) -> bytes:
    image = Image.fromarray(scenery()).convert(mode)
    return hostile.encode(
        image, "JPEG", progressive=True, quality=quality, subsampling=subsampling, **options
    )


def shrunk(data: bytes, shrink: int) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (image.width // shrink, image.height // shrink))
        image.thumbnail((image.width * 2 // 3, image.height * 2 // 3))  # as little as it is reduced further
        pixels: NDArray[np.float64] = np.asarray(image.convert("RGB"), dtype=np.float64)
        return pixels


def reduced(data: bytes, shrink: int) -> bytes:
    result = without_unseen_scans(data, shrink)
    assert result is not None
    return result


def scans(data: bytes) -> int:
    return data.count(b"\xff\xda")


@pytest.mark.parametrize(("mode", "subsampling"), _KINDS)
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_the_picture_stays_nearly_the_same(mode: str, subsampling: int, quality: int, shrink: int) -> None:
    data = progressive(mode, subsampling, quality)
    lean = reduced(data, shrink)
    assert scans(lean) < scans(data)
    assert np.abs(shrunk(lean, shrink) - shrunk(data, shrink)).mean() < 4


def test_at_an_eighth_a_picture_of_full_chroma_is_exactly_the_same() -> None:
    data = progressive(subsampling=0)
    lean = reduced(data, 8)
    assert len(lean) < len(data) / 3
    assert (shrunk(lean, 8) == shrunk(data, 8)).all()


def test_metadata_goes_but_the_colour_space_stays() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = progressive("CMYK", exif=exif, comment=b"taken in the harbour")
    lean = reduced(data, 4)
    assert b"Exif" in data
    assert b"Exif" not in lean
    assert b"harbour" not in lean
    assert b"Adobe" in lean


@pytest.mark.parametrize("shrink", [1, 3, 16])
def test_at_other_scales_every_scan_is_needed(shrink: int) -> None:
    assert without_unseen_scans(progressive(), shrink) is None


def test_a_baseline_file_is_left_alone() -> None:
    assert without_unseen_scans(hostile.jpeg(), 8) is None


def test_a_file_that_was_made_lean_already_is_left_alone() -> None:
    assert without_unseen_scans(reduced(progressive(), 8), 8) is None


def damaged() -> dict[str, bytes]:
    """Files with one fault each, in or before a scan that would be dropped."""
    data = progressive()
    last = data.rindex(b"\xff\xda")
    count = data[last + 4]
    selection = last + 5 + 2 * count
    frame = data.index(b"\xff\xc2")
    return {
        "no end": data[:-2],
        "cut in the last scan": data[: last + 40],
        "bytes between segments": data[:last] + b"\0" + data[last:],
        "a length of nothing": data[: last + 2] + b"\0\0" + data[last + 4 :],
        "an unknown component": data[: last + 5] + b"\x63" + data[last + 6 :],
        "coefficients backwards": data[:selection] + b"\x3f\x01" + data[selection + 2 :],
        "a coefficient of 64": data[: selection + 1] + b"\x40" + data[selection + 2 :],
        "a bit that is not next": data[: selection + 2] + b"\x30" + data[selection + 3 :],
        "the same scan twice": data[:-2] + data[last:],
        "two frames": data[:frame] + data[frame : frame + 19] + data[frame:],
        "an arithmetic frame": data[:frame] + b"\xff\xca" + data[frame + 2 :],
        "a segment that never ends": data[:last] + b"\xff\xe5\xff\xff" + data[last:],
        "too many segments": data[:last] + b"\xff\xfe\0\x02" * 1000 + data[last:],
    }


@pytest.mark.parametrize("fault", damaged())
def test_a_file_that_is_not_well_formed_is_left_as_it_is(fault: str) -> None:
    assert without_unseen_scans(damaged()[fault], 8) is None


def outcome(data: bytes, target: int | None) -> str:
    try:
        return "ok" if decode_picture(data, target=target).image else ""
    except ImageError as error:
        return error.reason.value


@pytest.mark.parametrize("fault", damaged())
def test_a_damaged_file_has_the_outcome_that_it_has_at_full_size(fault: str) -> None:
    data = damaged()[fault]
    assert outcome(data, 32) == outcome(data, None)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


_SEGMENTS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.builds(
            segment,
            st.sampled_from([0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE]),
            st.binary(max_size=24),
        ),
        st.just(b"\xff\xd9"),
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(rest=_SEGMENTS, shrink=st.sampled_from([2, 4, 8]))
@example(rest=b"", shrink=8)
@example(rest=b"\xff", shrink=8)
@example(rest=b"\xff\xda\0", shrink=8)
def test_no_bytes_behind_the_first_marker_raise(rest: bytes, shrink: int) -> None:
    result = without_unseen_scans(b"\xff\xd8" + rest, shrink)
    assert result is None or len(result) <= len(rest) + 2


_WHOLE = progressive()


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(2, len(_WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_file_with_changed_bytes_is_a_picture_or_an_image_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_WHOLE)
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(ImageError):
        picture = decode_picture(bytes(data), target=32)
        assert min(picture.image.size) >= min(32, *picture.full_size)
