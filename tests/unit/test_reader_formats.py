"""Every format: all its rows are read or counted, and what is wrong is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.readers import SPLITS, parse_spec, read_split
from model.data.sample import DataError
from tests.datasets import (
    Fixture,
    pack,
    write_goodnews_derived,
    write_goodnews_official,
    write_jsonl,
    write_mbeir,
    write_n24news,
    write_visualnews_official,
    write_visualnews_published,
)

WRITERS: dict[str, Callable[[Path], Fixture]] = {
    "n24news": write_n24news,
    "visualnews-official": write_visualnews_official,
    "visualnews-published": write_visualnews_published,
    "goodnews-official": write_goodnews_official,
    "goodnews-derived": write_goodnews_derived,
    "mbeir": write_mbeir,
    "jsonl": write_jsonl,
}
PACKED = {  # the writer, what is packed, how its tar's members begin
    "n24news": (write_n24news, "imgs", "imgs/"),
    "visualnews-official": (write_visualnews_official, "origin", "origin/"),
    "visualnews-published": (write_visualnews_published, "images", "images/"),
    "goodnews-derived": (write_goodnews_derived, "images", "images/"),
    "mbeir": (write_mbeir, "mbeir_images", "mbeir_images/"),
}
# one file of each format, and what then stands in its place
ANNOTATIONS = {
    "n24news": "news/nytimes_dev.json",
    "visualnews-official": "origin/data.json",
    "visualnews-published": "val.json",
    "goodnews-official": "img_splits.json",
    "goodnews-derived": "new_goodnews_capim_val.json",
    "mbeir": "query/val/mbeir_visualnews_task0_val.jsonl",
    "jsonl": "pairs.jsonl",
}


@pytest.fixture(params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fixture(kind: str, tmp_path: Path) -> Fixture:
    return WRITERS[kind](tmp_path)


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_read_or_left_out_for_its_reason(fixture: Fixture, split: str) -> None:
    found = read_split(fixture.spec, split)
    assert len(found.samples) == fixture.read[split] > 4
    assert found.left_out == fixture.left_out[split]
    assert found.name == split


@pytest.mark.parametrize("split", SPLITS)
def test_rows_have_the_explanations_of_their_file(fixture: Fixture, split: str) -> None:
    samples = read_split(fixture.spec, split).samples
    assert sum(bool(sample.explanation) for sample in samples) == fixture.explained[split]


def test_a_picture_is_named_by_its_path_below_the_folder(fixture: Fixture) -> None:
    found = read_split(fixture.spec, "train")
    missing = [sample.image for sample in found.samples if not (found.images / sample.image).is_file()]
    assert len(missing) == 1  # the one that the writer left away
    assert not any(sample.image.startswith((".", "/")) for sample in found.samples)


def test_ids_are_unique(fixture: Fixture) -> None:
    ids = [sample.id for sample in read_split(fixture.spec, "train").samples]
    assert len(set(ids)) == len(ids)


def test_splits_share_no_picture(fixture: Fixture) -> None:
    train, val, test = ({s.image for s in read_split(fixture.spec, split).samples} for split in SPLITS)
    assert len(train | val | test) == len(train) + len(val) + len(test)


def test_captions_that_repeat_stay(fixture: Fixture) -> None:
    captions = [sample.caption for sample in read_split(fixture.spec, "train").samples]
    assert len(set(captions)) == len(captions) - 1


def test_unknown_fields_are_skipped_and_the_same_rows_come_twice(fixture: Fixture) -> None:
    assert read_split(fixture.spec, "val") == read_split(fixture.spec, "val")


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("from_inside", [False, True])
def test_pictures_in_a_tar_are_named_as_its_members(name: str, from_inside: bool, tmp_path: Path) -> None:
    write, folder, prefix = PACKED[name]
    fixture = write(tmp_path)
    unpacked = read_split(fixture.spec, "val")
    tar = pack(tmp_path, folder, from_inside=from_inside)
    packed = read_split(fixture.spec, "val")
    below = unpacked.images.relative_to(tmp_path / folder).as_posix().removeprefix(".")
    prefix = ("" if from_inside else prefix) + (f"{below}/" if below else "")
    assert packed.images == tar
    assert [s.image for s in packed.samples] == [prefix + s.image for s in unpacked.samples]
    assert [s.explanation for s in packed.samples] == [s.explanation for s in unpacked.samples]


@pytest.mark.parametrize("name", PACKED)
def test_missing_pictures_are_one_line(name: str, tmp_path: Path) -> None:
    write, folder, _ = PACKED[name]
    fixture = write(tmp_path)
    pack(tmp_path, folder).unlink()
    with pytest.raises(DataError, match=r"the pictures are missing, expected .*") as caught:
        read_split(fixture.spec, "train")
    assert "\n" not in str(caught.value)


def test_a_tar_that_is_none_is_one_line(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    pack(tmp_path, "imgs").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(DataError, match=r"imgs\.tar: no tar file, or a damaged one$"):
        read_split(fixture.spec, "train")


def test_a_missing_file_is_one_line_that_names_it(fixture: Fixture, kind: str, tmp_path: Path) -> None:
    (tmp_path / ANNOTATIONS[kind]).unlink()
    if kind == "mbeir":  # either of its two tasks is enough
        (tmp_path / ANNOTATIONS[kind].replace("task0", "task3")).unlink()
    name = Path(ANNOTATIONS[kind]).name
    with pytest.raises(DataError) as caught:
        read_split(fixture.spec, "val")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b'{"broken', b"[1, 2", b'"text"', b"[[]]", b"\xff\xfe"],
    ids=["cut", "cut list", "another type", "another type inside", "no text"],
)
def test_broken_json_is_one_line_that_names_the_file(
    fixture: Fixture, kind: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / ANNOTATIONS[kind]
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_split(fixture.spec, "val")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_json(fixture: Fixture, kind: str, tmp_path: Path) -> None:
    plain = read_split(fixture.spec, "val")
    path = tmp_path / ANNOTATIONS[kind]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_split(fixture.spec, "val").samples == plain.samples


def test_text_that_is_no_utf8_is_one_line(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    (tmp_path / "news" / "nytimes_test.json").write_bytes(b'[{"image_id": "1", "caption": "caf\xe9"}]')
    with pytest.raises(DataError, match=r"nytimes_test\.json: "):
        read_split(fixture.spec, "test")


def test_a_wrong_type_says_where_it_is(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    (tmp_path / "news" / "nytimes_test.json").write_text('[{"caption": "A"}, {"caption": 7}]')
    with pytest.raises(DataError, match=r"nytimes_test\.json: Expected `str \| null`.*\$\[1\]\.caption"):
        read_split(fixture.spec, "test")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("n24news", "given as KIND:PATH"),
        ("n24news:", "given as KIND:PATH"),
        ("flickr30k:/tmp", "unknown kind of data set 'flickr30k'.*known: n24news"),
        ("n24news:/no/such/folder", "there is no /no/such/folder"),
    ],
)
def test_a_wrong_spec_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split(spec, "train")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.json").touch()
    with pytest.raises(DataError, match="is not a folder"):
        parse_spec(f"visualnews:{tmp_path / 'data.json'}")


def test_an_unknown_split_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown split 'dev'; known: train, val, test"):
        read_split(write_n24news(tmp_path).spec, "dev")
