"""Our own JSONL: where a row's split and its picture come from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from model.data.readers import SPLITS, read_split
from model.data.sample import DataError, LeftOut


def _write(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def _row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "image": f"images/{number}.jpg", "caption": f"Caption {number}", **more}


def _ids(spec: str, split: str) -> list[str]:
    return [sample.id for sample in read_split(spec, split).samples]


def test_all_fields_arrive(tmp_path: Path) -> None:
    more = {"explanation": "A face.", "article": "a7", "section": "World", "split": "test"}
    (sample,) = read_split(_write(tmp_path / "pairs.jsonl", _row(7, **more)), "test").samples
    assert (sample.id, sample.image, sample.caption) == ("7", "images/7.jpg", "Caption 7")
    assert (sample.explanation, sample.article, sample.section) == ("A face.", "a7", "World")


def test_the_caption_may_be_called_text(tmp_path: Path) -> None:
    spec = _write(tmp_path / "test.jsonl", {"id": "1", "image": "1.jpg", "text": "Written"})
    assert read_split(spec, "test").samples[0].caption == "Written"


def test_a_folder_has_a_file_a_split(tmp_path: Path) -> None:
    _write(tmp_path / "train.jsonl", _row(1))
    _write(tmp_path / "dev.jsonl", _row(2))
    assert _ids(f"jsonl:{tmp_path}", "train") == ["1"]
    assert _ids(f"jsonl:{tmp_path}", "val") == ["2"]
    with pytest.raises(DataError, match=r"no test\.jsonl is there"):
        read_split(f"jsonl:{tmp_path}", "test")


def test_the_name_of_a_file_says_the_split_of_its_rows(tmp_path: Path) -> None:
    spec = _write(tmp_path / "test.jsonl", _row(1), _row(2, split="train"))
    assert _ids(spec, "test") == ["1"]
    assert _ids(spec, "train") == ["2"]


@pytest.mark.parametrize("name", ["val", "dev", "valid", "validation"])
def test_validation_has_several_names(name: str, tmp_path: Path) -> None:
    assert _ids(_write(tmp_path / "pairs.jsonl", _row(1, split=name)), "val") == ["1"]


def test_rows_of_another_split_are_noted(tmp_path: Path) -> None:
    found = read_split(_write(tmp_path / "pairs.jsonl", _row(1, split="held-out")), "test")
    assert found.samples == []
    assert found.notes == ["1 rows of pairs.jsonl name another split than train, val and test"]


def test_rows_without_a_split_get_a_seeded_one_that_parts_no_article(tmp_path: Path) -> None:
    rows = [_row(number, article=f"a{number // 4}") for number in range(400)]
    spec = _write(tmp_path / "pairs.jsonl", *rows)
    splits = [read_split(spec, split) for split in SPLITS]
    articles = [{sample.article for sample in split.samples} for split in splits]
    assert sum(len(split.samples) for split in splits) == 400
    assert all(articles)
    assert sum(map(len, articles)) == 100
    assert splits[0].notes == ["400 rows of pairs.jsonl name no split; ours is 90 % train, 5 % val, 5 % test"]


def test_captions_of_one_picture_stay_in_one_split(tmp_path: Path) -> None:
    rows = [_row(number, image=f"images/{number // 5}.jpg") for number in range(400)]
    spec = _write(tmp_path / "pairs.jsonl", *rows)
    images = [{sample.image for sample in read_split(spec, split).samples} for split in SPLITS]
    assert sum(map(len, images)) == 80


def test_rows_that_lack_a_field_are_counted(tmp_path: Path) -> None:
    rows = [
        _row(1, image=None),
        {"image": "2.jpg", "caption": "No id"},
        _row(3, caption=" \n"),
        _row(4),
        _row(4),
    ]
    found = read_split(_write(tmp_path / "val.jsonl", *rows), "val")
    assert [sample.id for sample in found.samples] == ["4"]
    assert found.left_out == {
        LeftOut.INCOMPLETE_ROW: 2,
        LeftOut.EMPTY_CAPTION: 1,
        LeftOut.REPEATED_ID: 1,
    }


def test_an_absolute_path_below_the_folder_is_made_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _write(tmp_path / "test.jsonl", _row(1, image=str(tmp_path / "images" / "1.jpg")))
    assert read_split(spec, "test").samples[0].image == "images/1.jpg"
    monkeypatch.chdir(tmp_path)
    assert read_split("jsonl:test.jsonl", "test").samples[0].image == "images/1.jpg"


@pytest.mark.parametrize("image", ["/etc/passwd", "../outside.jpg", "images/../../outside.jpg"])
def test_a_picture_outside_the_folder_is_refused(image: str, tmp_path: Path) -> None:
    spec = _write(tmp_path / "test.jsonl", _row(1), _row(2, image=image))
    with pytest.raises(DataError, match=r"test\.jsonl line 2: the picture .* is not below the file's folder"):
        read_split(spec, "test")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": 1, "image": "1.jpg", "caption": "A"}\n\n{"id": 2, "ima')
    with pytest.raises(DataError, match=r"train\.jsonl line 3: .*truncated"):
        read_split(f"jsonl:{path}", "train")


def test_the_open_pairs_are_read_whole() -> None:
    root = Path(os.environ.get("ENTITYCLIP_TEST_DATA", "../shared/data"))
    if not (root / "pairs.jsonl").is_file():
        pytest.skip(
            f"no {root / 'pairs.jsonl'}: set ENTITYCLIP_TEST_DATA to the folder of the open test data"
        )
    splits = [read_split(f"jsonl:{root / 'pairs.jsonl'}", split) for split in SPLITS]
    lines = (root / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(len(split.samples) for split in splits) == len(lines)
    assert all((split.images / sample.image).is_file() for split in splits for sample in split.samples)
