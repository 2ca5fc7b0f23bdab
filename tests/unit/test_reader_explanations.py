"""Explanation files: which row a key means, and what is said of keys that mean none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.data.explanations import apply_explanations, apply_to_splits, load_explanations
from model.data.readers import read_split
from model.data.sample import DataError, Sample, Split
from tests.datasets import write_goodnews_derived, write_mbeir, write_n24news, write_visualnews_published


@pytest.fixture
def split(tmp_path: Path) -> Split:
    samples = [
        Sample("a", "bbc/images/0001/001.jpg", "First", explanation="its own"),
        Sample("b", "guardian/images/0001/001.jpg", "Second"),
        Sample("c", "guardian/images/0001/001.jpg", "Another caption of the second picture"),
    ]
    return Split("visualnews", "val", tmp_path, samples)


def _json(path: Path, texts: dict[str, str | None]) -> Path:
    path.write_text(json.dumps(texts), encoding="utf-8")
    return path


def _lines(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _explained(split: Split) -> list[str]:
    return [sample.explanation for sample in split.samples]


def test_a_key_may_be_an_id(split: Split, tmp_path: Path) -> None:
    file = _json(tmp_path / "e.json", {"b": "of b"})
    assert _explained(apply_explanations(split, file)) == ["its own", "of b", ""]


@pytest.mark.parametrize(
    "before",
    ["", "./", "/", "/home/somebody/VisualNews/images//", "C:\\VisualNews\\origin\\", "images/"],
)
def test_a_key_may_be_the_pictures_path_with_anything_before_it(
    before: str, split: Split, tmp_path: Path
) -> None:
    file = _json(tmp_path / "e.json", {f"{before}guardian/images/0001/001.jpg": "of the picture"})
    assert _explained(apply_explanations(split, file)) == ["its own", "of the picture", "of the picture"]


def test_an_id_with_a_picture_means_that_picture_alone(split: Split, tmp_path: Path) -> None:
    of_another_split = {"id": "a", "image": "bbc/images/7.jpg", "explanation": "of another a"}
    of_b = {"id": "b", "image": "origin/guardian/images/0001/001.jpg", "explanation": "of b"}
    found = apply_explanations(split, _lines(tmp_path / "e.jsonl", of_another_split, of_b))
    assert _explained(found) == ["its own", "of b", ""]
    assert found.notes[-1].endswith("1 of its keys fit no row")


def test_an_id_with_another_picture_is_told_with_its_picture(split: Split, tmp_path: Path) -> None:
    file = _lines(tmp_path / "e.jsonl", {"id": "a", "image": "7.jpg", "explanation": "of another a"})
    with pytest.raises(DataError, match=r"it has 'a' for the picture '7\.jpg', expected a picture such as"):
        apply_explanations(split, file)


def test_a_part_of_a_pictures_path_is_no_key(split: Split, tmp_path: Path) -> None:
    file = _json(tmp_path / "e.json", {"0001/001.jpg": "whose?", "a": "of a"})
    assert _explained(apply_explanations(split, file)) == ["of a", "", ""]


def test_a_row_that_the_file_does_not_name_keeps_its_own(split: Split, tmp_path: Path) -> None:
    assert _explained(apply_explanations(split, _json(tmp_path / "e.json", {})))[0] == "its own"


def test_the_note_counts_rows_and_keys(split: Split, tmp_path: Path) -> None:
    file = _json(tmp_path / "e.json", {"b": "of b", "bbc/images/9999/999.jpg": "x", "y": "y", "c": None})
    assert apply_explanations(split, file).notes == [
        "e.json: explains 1 of 3 rows; 1 have no explanation, 2 of its keys fit no row"
    ]


def test_the_split_that_was_given_is_not_changed(split: Split, tmp_path: Path) -> None:
    apply_explanations(split, _json(tmp_path / "e.json", {"b": "of b"}))
    assert _explained(split) == ["its own", "", ""]
    assert split.notes == []


def test_a_file_keyed_by_something_else_is_one_line_that_shows_both(split: Split, tmp_path: Path) -> None:
    file = _json(tmp_path / "e.json", {"Headline\nof an article": "x"})
    with pytest.raises(DataError) as caught:
        apply_explanations(split, file)
    assert str(caught.value) == (
        f"{file}: none of its 1 keys fits a row of visualnews val: it has 'Headline\\nof an article', "
        "expected a picture such as 'bbc/images/0001/001.jpg' or an id such as 'a'"
    )


def test_one_file_may_be_for_some_of_the_splits(split: Split, tmp_path: Path) -> None:
    train = Split("visualnews", "train", tmp_path, [Sample("t", "bbc/images/0002/002.jpg", "Third")])
    file = _json(tmp_path / "e.json", {"t": "of t"})
    assert [_explained(found) for found in apply_to_splits([split, train], file)] == [
        ["its own", "", ""],
        ["of t"],
    ]
    with pytest.raises(DataError, match="none of its 1 keys fits a row"):
        apply_to_splits([split, split], file)


def test_two_texts_for_one_picture_are_refused(split: Split, tmp_path: Path) -> None:
    file = _json(tmp_path / "e.json", {f"{v}/bbc/images/0001/001.jpg": v for v in ("v1", "v2")})
    with pytest.raises(DataError, match=r"more than one key fits the picture bbc/images/0001/001\.jpg"):
        apply_explanations(split, file)


def test_json_lines_are_keyed_by_id_and_the_last_text_counts(split: Split, tmp_path: Path) -> None:
    file = _lines(
        tmp_path / "e.jsonl",
        {"id": "b", "image": "guardian/images/0001/001.jpg", "explanation": "old", "status": "generated"},
        {"id": "b", "image": "guardian/images/0001/001.jpg", "explanation": "new", "status": "generated"},
        {"id": "b", "image": "guardian/images/0001/001.jpg", "explanation": "", "status": "failed"},
        {"image": "bbc/images/0001/001.jpg", "explanation": "by picture"},
        {"id": 7, "explanation": "of no row"},
    )
    found = apply_explanations(split, file)
    assert _explained(found) == ["by picture", "new", ""]
    assert found.notes[0].endswith("1 of its keys fit no row")


def test_a_line_without_a_key_is_named(tmp_path: Path) -> None:
    file = _lines(tmp_path / "e.jsonl", {"id": "a", "explanation": "x"}, {"explanation": "y"})
    with pytest.raises(DataError, match=r"e\.jsonl line 2: it has neither id nor image"):
        load_explanations(file)


@pytest.mark.parametrize(("name", "content"), [("e.json", "[1]"), ("e.jsonl", "[1]"), ("e.json", '{"a": 1}')])
def test_a_file_of_another_form_is_one_line(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}.*Expected"):
        load_explanations(tmp_path / name)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: there is no such file"):
        load_explanations(tmp_path / "nowhere.json")


def test_a_benchmark_without_its_explanations_says_so(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path, explanations=False)
    found = read_split(fixture.spec, "val")
    assert not any(_explained(found))
    assert found.notes == [f"no explanations: there is no {tmp_path / 'news' / 'CapDsc_mistral_dev.json'}"]


def test_a_benchmarks_file_keyed_the_wrong_way_is_an_error(tmp_path: Path) -> None:
    fixture = write_goodnews_derived(tmp_path)
    path = tmp_path / "train_cap_individual" / "New_Corr_CapDsc_mistral_test.json"
    texts = json.loads(path.read_text())
    _json(path, {text: key for key, text in texts.items()})
    with pytest.raises(DataError, match=r"New_Corr_CapDsc_mistral_test\.json: none of its \d+ keys fits"):
        read_split(fixture.spec, "test")


def test_another_file_replaces_the_published_explanations(tmp_path: Path) -> None:
    found = read_split(write_n24news(tmp_path).spec, "test")
    first, second = found.samples[:2]
    replaced = apply_explanations(found, _json(tmp_path / "mine.json", {first.image: "mine"}))
    assert _explained(replaced)[:2] == ["mine", second.explanation]


def test_the_published_explanations_of_visualnews_fit_mbeirs_pictures(tmp_path: Path) -> None:
    found = read_split(write_mbeir(tmp_path, traps=False).spec, "val")
    texts: dict[str, str | None] = {
        f"/elsewhere/VisualNews/images//{sample.image}": sample.caption for sample in found.samples
    }
    explained = apply_explanations(found, _json(tmp_path / "CapDsc_mistral_val.json", texts))
    assert _explained(explained) == [sample.caption for sample in found.samples]


def test_each_row_has_its_own_published_explanation(tmp_path: Path) -> None:
    fixture = write_visualnews_published(tmp_path)
    texts = json.loads((tmp_path / "CapDsc_mistral_train.json").read_text())
    for sample in read_split(fixture.spec, "train").samples:
        keys = [key for key in texts if key.endswith(f"images//{sample.image}")]
        assert sample.explanation == (texts[keys[0]] if keys else "")
