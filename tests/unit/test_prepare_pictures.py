"""Pictures as they come, from a folder or a tar, and as they are kept."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.pictures import PictureFile, bound_picture, find_pictures
from model.data.sample import DataError
from model.pictures.decode import ImageError, decode
from tests.hostile import encode, quadrants


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """A soft random picture: as a JPEG it is neither tiny nor huge."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 30 + 1, width // 30 + 1, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_the_shorter_side_of_a_large_picture_is_bounded() -> None:
    kept = Image.open(io.BytesIO(bound_picture(encode(noise(300, 480), "JPEG"), 100, 90).jpeg))
    assert (kept.size, kept.format) == ((160, 100), "JPEG")


def test_a_bounded_picture_still_shows_what_it_showed() -> None:
    data = encode(noise(300, 480), "JPEG", quality=95)
    expected = decode(data).resize((160, 100), Image.Resampling.BICUBIC)
    kept = decode(bound_picture(data, 100, 90).jpeg)
    difference = np.abs(np.asarray(kept, np.int16) - np.asarray(expected, np.int16))
    assert difference.mean() < 3


def test_a_small_jpeg_is_kept_byte_for_byte() -> None:
    data = encode(noise(90, 200), "JPEG", quality=50)
    assert bound_picture(data, 100, 90).jpeg == data


def test_a_small_jpeg_with_bulky_metadata_is_made_anew() -> None:
    data = encode(noise(90, 200), "JPEG", quality=50, comment=b"x" * 60_000)
    assert len(bound_picture(data, 100, 90).jpeg) < 20_000


def test_other_formats_become_jpeg() -> None:
    kept = bound_picture(encode(quadrants(), "PNG"), 100, 90).jpeg
    assert Image.open(io.BytesIO(kept)).format == "JPEG"


def test_a_rotated_jpeg_that_is_kept_is_still_upright_when_it_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    kept = bound_picture(encode(noise(60, 90), "JPEG", quality=50, exif=exif), 100, 90).jpeg
    assert decode(kept).size == (60, 90)


@pytest.mark.parametrize("size", [(40_000, 12), (12, 40_000), (70_000, 3)])
def test_an_extremely_long_picture_stays_a_readable_jpeg(size: tuple[int, int]) -> None:
    kept = decode(bound_picture(encode(Image.new("RGB", size, "red"), "PNG"), 100, 90).jpeg)
    assert max(kept.size) == 1600
    assert min(kept.size) >= 2


def test_equal_pixels_in_different_files_have_the_same_digest() -> None:
    picture = noise(90, 120)
    one, other = encode(picture, "PNG"), encode(picture, "BMP")
    assert bound_picture(one, 100, 90).digest == bound_picture(other, 100, 90).digest


def test_different_pixels_have_different_digests() -> None:
    digests = {bound_picture(encode(noise(90, 120, seed), "PNG"), 100, 90).digest for seed in range(5)}
    assert len(digests) == 5


def test_a_broken_picture_is_refused() -> None:
    with pytest.raises(ImageError):
        bound_picture(encode(quadrants(), "JPEG")[:200], 100, 90)


NAMES = ["b/2.jpg", "a/1.jpg", "a/ü 3.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate([*NAMES, "a/unwanted.jpg"]):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture %d" % number)
    return tmp_path / "pictures"


def pack(folder: Path, mode: str = "w", prefix: str = "") -> Path:
    path = folder.parent / "pictures.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for file in sorted(folder.rglob("*.jpg")):
            archive.add(file, prefix + file.relative_to(folder).as_posix())
    return path


def contents(files: list[PictureFile]) -> dict[str, bytes]:
    return {file.name: file.read() for file in files}


def test_wanted_pictures_of_a_folder_come_in_the_order_asked_for(folder: Path) -> None:
    files = list(find_pictures(folder, NAMES))
    assert [file.name for file in files] == NAMES
    assert contents(files)["a/1.jpg"] == b"picture 1"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_tar_holds_the_same_as_its_folder(folder: Path, mode: str, prefix: str) -> None:
    expected = contents(list(find_pictures(folder, NAMES)))
    assert contents(list(find_pictures(pack(folder, mode, prefix), NAMES))) == expected


def test_missing_pictures_are_skipped(folder: Path) -> None:
    assert [file.name for file in find_pictures(folder, ["a/0.jpg", "a/1.jpg", "a"])] == ["a/1.jpg"]
    assert [file.name for file in find_pictures(pack(folder), ["a/0.jpg", "a/1.jpg", "a"])] == ["a/1.jpg"]


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/hostname", "a\0b", ""])
def test_a_name_that_leads_out_of_the_folder_is_missing(folder: Path, name: str) -> None:
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    assert list(find_pictures(folder, [name])) == []


def test_a_pipe_among_the_pictures_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert list(find_pictures(folder, ["pipe.jpg"])) == []


def test_links_in_a_tar_are_not_followed(folder: Path) -> None:
    path = folder.parent / "links.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a/1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert list(find_pictures(path, ["a/1.jpg"])) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_truncated_tar_is_one_line(folder: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).write_bytes(rng.bytes(30_000))  # nothing can compress it
    path = pack(folder, mode)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match=r"pictures\.tar: the tar is damaged behind its member \d") as error:
        list(find_pictures(path, [*NAMES, "z/last.jpg"]))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_tar_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 300)
    with pytest.raises(DataError, match="the tar is damaged"):
        list(find_pictures(tmp_path / "x.tar", ["a"]))


def test_neither_folder_nor_tar_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a tar"):
        find_pictures(tmp_path / "none", ["a"])
