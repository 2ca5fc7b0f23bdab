"""Decoding: what is taken looks as it was meant, what is refused says why."""

from __future__ import annotations

import contextlib
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision import transforms

from model.pictures import decode as decode_pictures
from model.pictures.decode import (
    ImageError,
    ImageLimits,
    ImageReason,
    ResizeMode,
    decode,
    decode_picture,
    resize_for_model,
    thumbnail,
)
from model.pictures.pixel_budget import PixelBudget
from tests import hostile
from tests.hostile import BLUE, GREEN, RED, WHITE
from worker.errors import Reason

REFUSED = hostile.refused()


def corners(image: Image.Image) -> tuple[tuple[int, ...], ...]:
    """Colours near the four corners, row by row, rounded to what JPEG leaves of them."""
    pixels = np.asarray(image, dtype=int)
    return tuple(
        tuple(int(round(value / 255) * 255) for value in pixels[row, column])
        for row in (4, -5)
        for column in (4, -5)
    )


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("target", [None, 224])
def test_a_bad_file_is_refused_for_its_reason(name: str, target: int | None) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        decode(data, target=target)
    assert caught.value.reason is reason
    assert len(str(caught.value).splitlines()) == 1


def test_every_image_reason_is_a_dead_letter_reason() -> None:
    assert {reason.value for reason in ImageReason} == {
        reason.value for reason in Reason if reason.value.startswith("image_")
    } - {Reason.IMAGE_UNAVAILABLE, Reason.IMAGE_REFUSED}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_oriented_photograph_stands_upright(orientation: int) -> None:
    image = decode(hostile.oriented_jpeg(orientation, hostile.quadrants()))
    assert image.size == (64, 48)
    assert corners(image) == (RED, GREEN, BLUE, WHITE)


def test_the_oriented_photographs_of_this_test_agree_with_pillow() -> None:
    for orientation in range(1, 9):
        stored = Image.open(io.BytesIO(hostile.oriented_jpeg(orientation, hostile.quadrants())))
        assert corners(ImageOps.exif_transpose(stored).convert("RGB")) == (RED, GREEN, BLUE, WHITE)


def test_orientation_holds_when_the_photograph_is_shrunk_on_load() -> None:
    image = decode(hostile.oriented_jpeg(6, hostile.quadrants(960, 1280)), target=96)
    assert image.width > image.height
    assert corners(image) == (RED, GREEN, BLUE, WHITE)


@pytest.mark.parametrize("target", [16, 96, 224, 256])
def test_a_large_photograph_is_shrunk_on_load_but_not_below_the_target(target: int) -> None:
    data = hostile.jpeg(hostile.quadrants(1500, 2000))
    side = min(decode(data, target=target).size)
    assert target <= side
    assert side < 1500


def test_a_target_never_enlarges() -> None:
    assert decode(hostile.jpeg(), target=500).size == (64, 48)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    assert corners(decode(hostile.animated_gif())) == (RED,) * 4


def test_a_cmyk_photograph_keeps_its_colours() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert corners(decode(hostile.encode(cmyk, "JPEG", quality=95))) == (RED,) * 4


def _palette_with_transparency() -> bytes:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 0, 16, 8))
    return hostile.encode(image, "PNG", transparency=b"\x00\xff")


def _colour_key() -> bytes:
    return hostile.encode(Image.new("RGB", (16, 16), RED), "PNG", transparency=RED)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (hostile.encode(Image.new("RGBA", (16, 16), (*RED, 0)), "PNG"), (WHITE,) * 4),
        (hostile.encode(Image.new("RGBA", (16, 16), (*RED, 255)), "WEBP", lossless=True), (RED,) * 4),
        (hostile.encode(Image.new("LA", (16, 16), (0, 0)), "PNG"), (WHITE,) * 4),
        (_palette_with_transparency(), (BLUE, BLUE, WHITE, WHITE)),
        (_colour_key(), (WHITE,) * 4),
    ],
    ids=["rgba", "opaque", "la", "palette", "colour-key"],
)
def test_what_is_transparent_becomes_white(data: bytes, expected: tuple[tuple[int, ...], ...]) -> None:
    assert corners(decode(data)) == expected


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (100, 0), (0x8000, 128), (0xFFFF, 255)])
def test_sixteen_bit_greys_keep_their_upper_byte(value: int, expected: int) -> None:
    grey = Image.fromarray(np.full((8, 8), value, np.uint16))
    assert (np.asarray(decode(hostile.encode(grey, "PNG"))) == expected).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF"])
def test_every_plain_mode_becomes_rgb(mode: str, file_format: str) -> None:
    image = decode(hostile.encode(Image.new(mode, (8, 8)), file_format))
    assert (image.mode, image.size) == ("RGB", (8, 8))


def test_broken_exif_is_no_reason_to_refuse_and_warns_nobody() -> None:
    data = hostile.jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(data).size == (64, 48)
    assert not caught


def test_the_mute_covers_pillow_alone() -> None:
    decode(hostile.jpeg())
    with pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_the_limits_are_those_given() -> None:
    data = hostile.jpeg()
    assert decode(data, limits=ImageLimits(len(data), 64 * 48, 48)).size == (64, 48)
    for limits, reason in (
        (ImageLimits(max_bytes=len(data) - 1), ImageReason.TOO_LARGE),
        (ImageLimits(max_pixels=64 * 48 - 1), ImageReason.TOO_LARGE),
        (ImageLimits(min_side=49), ImageReason.TOO_SMALL),
    ):
        with pytest.raises(ImageError) as caught:
            decode(data, limits=limits)
        assert caught.value.reason is reason


def test_a_cap_of_pillow_itself_is_too_large_whatever_the_limits() -> None:
    with pytest.raises(ImageError) as caught:
        decode(REFUSED["bomb.png"][0], limits=ImageLimits(max_pixels=10**12))
    assert caught.value.reason is ImageReason.TOO_LARGE


def test_threads_decode_the_same_as_one() -> None:
    files = [hostile.oriented_jpeg(number, hostile.quadrants()) for number in range(1, 9)] * 8
    expected = [decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda data: decode(data).tobytes(), files)) == expected


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_an_image_or_an_image_error(data: st.DataObject) -> None:
    file_format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP"]))
    damaged = bytearray(hostile.encode(hostile.quadrants(16, 16), file_format))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(damaged)).mode == "RGB"


def test_squash_keeps_what_the_centre_crop_cuts_off() -> None:
    picture = np.zeros((20, 100, 3), np.uint8)
    picture[:, :20] = RED
    image = Image.fromarray(picture)
    assert not resize_for_model(image, 20, "center-crop").any()
    assert resize_for_model(image, 20, "squash")[:, :3, 0].min() > 200


@pytest.mark.parametrize("mode", ["center-crop", "squash"])
def test_an_extreme_shape_is_resized_without_blowing_it_up(mode: str) -> None:
    image = Image.new("RGB", (2, 100_000), RED)
    pixels = resize_for_model(image, 96, mode)  # type: ignore[arg-type]
    assert pixels.shape == (96, 96, 3)
    assert (pixels == RED).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((1000, 500), (256, 128)), ((40, 30), (40, 30)), ((3000, 2), (256, 1))]
)
def test_a_thumbnail_is_a_bounded_jpeg_of_the_whole_picture(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    with Image.open(io.BytesIO(thumbnail(Image.new("RGB", size, GREEN)))) as image:
        assert (image.format, image.size) == ("JPEG", expected)


@pytest.mark.parametrize(
    "size", [(320, 320), (4326, 1109), (333, 500), (501, 334), (97, 96), (40, 700), (225, 224)]
)
@pytest.mark.parametrize("side", [96, 224])
def test_the_central_square_is_the_one_that_clip_takes(size: tuple[int, int], side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    reference = transforms.Compose(
        [transforms.Resize(side, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side)]
    )(picture)
    difference = np.abs(resize_for_model(picture, side).astype(int) - np.asarray(reference).astype(int))
    assert difference.mean() < 0.5


def _slopes(height: int, width: int) -> NDArray[np.uint8]:
    """[height, width, 3] of long waves that survive shrinking; every shift shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([rows + columns, 2 * rows - columns, columns], axis=2) / 40
    picture: NDArray[np.uint8] = (128 + 100 * np.sin(waves)).astype(np.uint8)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["center-crop", "squash"])
def test_shrinking_on_load_shifts_nothing_whichever_side_is_padded(
    orientation: int, mode: ResizeMode
) -> None:
    picture = _slopes(585, 1033)  # an eighth of it ends within the 74th and the 130th pixel
    data = hostile.oriented_jpeg(orientation, picture)
    small = decode_picture(data, target=48)
    assert max(small.image.size) == 130
    expected = resize_for_model(decode(data), 48, mode)
    difference = small.for_model(48, mode).astype(int) - expected.astype(int)
    assert np.abs(difference).mean() < 1.5


def test_the_longer_side_alone_may_ask_for_more_pixels() -> None:
    data = hostile.jpeg(hostile.quadrants(800, 1600))
    assert decode_picture(data, target=32).image.size == (200, 100)
    assert decode_picture(data, target=32, longer_side=384).image.size == (400, 200)


def test_a_grey_photograph_becomes_rgb_where_it_is_used() -> None:
    data = hostile.encode(Image.fromarray(hostile.quadrants()).convert("L"), "JPEG")
    assert decode(data).mode == "RGB"
    picture = decode_picture(data)
    assert picture.image.mode == "L"
    assert picture.for_model(32).shape == (32, 32, 3)


def test_decoding_waits_for_its_share_of_the_budget() -> None:
    data, budget = hostile.jpeg(), PixelBudget(64 * 48)
    limits = ImageLimits(budget=budget)
    with ThreadPoolExecutor(1) as pool:
        with budget.take(1):
            waiting = pool.submit(decode, data, limits=limits)
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
        assert waiting.result(10).size == (64, 48)


def _in_three_scans(side: int) -> bytes:
    """A sequential JPEG whose components come one after the other: its decoder holds all coefficients."""
    sequential = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(sequential, "JPEG", subsampling=0)
    data = sequential.getvalue()
    at = data.index(b"\xff\xda")
    header, tail = data[:at], data[at:]
    assert tail[4] == 3
    return header + b"\xff\xda" + bytes((0, 8, 1, 1, 0, 0, 63, 0)) + tail[14:]


def test_a_jpeg_in_several_scans_is_charged_for_its_coefficients() -> None:
    with Image.open(io.BytesIO(plain := _jpeg_file(512))) as image:
        at_once = decode_pictures._cost(image, plain, 8)
    with Image.open(io.BytesIO(scans := _in_three_scans(512))) as image:
        one_by_one = decode_pictures._cost(image, scans, 8)
    assert at_once == 64 * 64
    assert one_by_one == 64 * 64 + 512 * 512 // 2


def _jpeg_file(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "JPEG")
    return file.getvalue()
