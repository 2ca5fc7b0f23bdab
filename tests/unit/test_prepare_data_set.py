"""From a benchmark's own files to the prepared form: every row is used or counted."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from model.data.prepare import PrepareOptions, prepare, resolve_prepared
from model.data.prepared import open_prepared
from model.data.prepared_form import PreparedFacts
from model.data.readers import SPLITS, read_split
from model.data.sample import DataError
from tests.datasets import (
    Fixture,
    write_goodnews_derived,
    write_goodnews_official,
    write_jsonl,
    write_mbeir,
    write_n24news,
    write_visualnews_official,
    write_visualnews_published,
)
from tests.datasets.pictures import draw_news
from tests.datasets.rows import write_lines

WRITERS: list[Callable[[Path], Fixture]] = [
    write_goodnews_derived,
    write_goodnews_official,
    write_jsonl,
    write_mbeir,
    write_n24news,
    write_visualnews_official,
    write_visualnews_published,
]


@pytest.fixture(params=WRITERS, ids=lambda writer: writer.__name__)
def fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Fixture:
    written: Fixture = request.param(tmp_path / "data")
    return written


@pytest.fixture
def n24news(tmp_path: Path) -> Fixture:
    return write_n24news(tmp_path / "data")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_row_of_a_benchmark_is_used_or_counted(fixture: Fixture, tmp_path: Path) -> None:
    facts = prepare(fixture.spec, tmp_path / "out")
    for name in SPLITS:
        split = facts.splits[name]
        assert split.rows == fixture.usable(name)
        counted = Counter(split.left_out)
        assert counted == fixture.left_out[name] + fixture.pictures_left_out[name]
        assert split.read == split.rows + counted.total()


def test_the_texts_are_those_of_the_reader(fixture: Fixture, tmp_path: Path) -> None:
    prepare(fixture.spec, tmp_path / "out")
    for name in SPLITS:
        samples = {sample.id: sample for sample in read_split(fixture.spec, name).samples}
        split = open_prepared(tmp_path / "out", name)
        assert split.count > 0
        for row in range(split.count):
            sample = samples[split.ids[row]]
            shown = (split.captions[row], split.explanations[row], split.sections[row])
            assert shown == (sample.caption, sample.explanation, sample.section)


def test_rows_of_one_picture_share_it_and_rows_of_one_caption_share_a_group(
    n24news: Fixture, tmp_path: Path
) -> None:
    prepare(n24news.spec, tmp_path / "out")
    split = open_prepared(tmp_path / "out", "train")
    captions = [caption.lower() for caption in split.captions]
    same_caption = np.array([[one == other for other in captions] for one in captions])
    assert np.array_equal(split.text_group[:, None] == split.text_group, same_caption)
    assert len(set(captions)) == split.count - 1  # the fixture repeats one caption, and one picture
    assert split.image_count == split.count - 1
    assert sorted(set(split.image_index.tolist())) == list(range(split.image_count))
    assert np.array_equal(split.image_group, split.image_index)


def test_the_stored_picture_is_the_one_of_its_row(n24news: Fixture, tmp_path: Path) -> None:
    prepare(n24news.spec, tmp_path / "out")
    split = open_prepared(tmp_path / "out", "val")
    for row in range(split.count):
        original = (n24news.root / "imgs" / f"{split.ids[row]}.jpg").read_bytes()
        kept = split.pictures.open(int(split.image_index[row]))
        assert np.array_equal(np.asarray(kept), np.asarray(Image.open(io.BytesIO(original))))


def test_a_few_of_what_is_left_out_are_named(n24news: Fixture, tmp_path: Path) -> None:
    examples = prepare(n24news.spec, tmp_path / "out").splits["val"].examples
    assert [line.partition(":")[0] for line in examples] == ["missing_image", "broken_image"]
    assert "truncated" in examples[1]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_tar_gives_the_content_of_its_folder(n24news: Fixture, tmp_path: Path, ending: str) -> None:
    of_folder = prepare(n24news.spec, tmp_path / "of-folder")
    with tarfile.open(n24news.root / f"imgs{ending}", "w:gz" if ending == ".tar.gz" else "w") as archive:
        archive.add(n24news.root / "imgs", "imgs")
    shutil.rmtree(n24news.root / "imgs")
    of_tar = prepare(n24news.spec, tmp_path / "of-tar")
    assert {name: split.fingerprint for name, split in of_tar.splits.items()} == {
        name: split.fingerprint for name, split in of_folder.splits.items()
    }


def test_the_same_data_gives_the_same_bytes(n24news: Fixture, tmp_path: Path) -> None:
    for name in ("one", "other"):
        prepare(n24news.spec, tmp_path / name)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")


def test_another_caption_gives_another_fingerprint_to_its_split_alone(
    n24news: Fixture, tmp_path: Path
) -> None:
    before = prepare(n24news.spec, tmp_path / "before").splits
    path = n24news.root / "news" / "nytimes_dev.json"
    rows = msgspec.json.decode(path.read_bytes())
    rows[0]["caption"] += " Again."
    path.write_bytes(msgspec.json.encode(rows))
    after = prepare(n24news.spec, tmp_path / "after").splits
    assert [name for name in SPLITS if before[name].fingerprint != after[name].fingerprint] == ["val"]


def test_only_the_splits_asked_for_are_prepared(n24news: Fixture, tmp_path: Path) -> None:
    facts = prepare(n24news.spec, tmp_path / "out", PrepareOptions(splits=("val",)))
    assert list(facts.splits) == ["val"]
    with pytest.raises(DataError, match="has no split 'test', only val"):
        open_prepared(tmp_path / "out", "test")


def test_explanations_of_a_file_replace_the_data_sets_own(n24news: Fixture, tmp_path: Path) -> None:
    first = read_split(n24news.spec, "test").samples[0]
    write_lines(tmp_path / "mine.jsonl", [{"id": first.id, "explanation": "Mine."}])
    prepare(n24news.spec, tmp_path / "out", PrepareOptions(explanations=tmp_path / "mine.jsonl"))
    split = open_prepared(tmp_path / "out", "test")
    assert split.explanations[0] == "Mine."
    assert split.explanations[1] != "Mine."


def leaky(folder: Path) -> str:
    """Six pictures in train, of which two stand again in val: once as it is, once smaller."""
    news = draw_news(8, size=160)
    smaller = io.BytesIO()
    picture = Image.open(io.BytesIO(news[1].jpeg)).resize((96, 96), Image.Resampling.LANCZOS)
    picture.save(smaller, "JPEG", quality=70)
    jpegs = {f"t{number}": one.jpeg for number, one in enumerate(news[:6])}
    jpegs |= {"v0": news[0].jpeg, "v1": smaller.getvalue(), "v2": news[7].jpeg}
    folder.mkdir()
    rows = []
    for name, jpeg in jpegs.items():
        (folder / f"{name}.jpg").write_bytes(jpeg)
        split = "train" if name.startswith("t") else "val"
        rows.append({"id": name, "image": f"{name}.jpg", "caption": f"Caption of {name}", "split": split})
    write_lines(folder / "pairs.jsonl", rows)
    return f"jsonl:{folder / 'pairs.jsonl'}"


def test_pictures_of_train_that_are_nearly_held_out_are_dropped(tmp_path: Path) -> None:
    facts = prepare(leaky(tmp_path / "data"), tmp_path / "out", PrepareOptions(splits=("train", "val")))
    assert list(open_prepared(tmp_path / "out", "train").ids) == ["t2", "t3", "t4", "t5"]
    assert open_prepared(tmp_path / "out", "val").count == 3
    train = facts.splits["train"]
    assert (train.near_duplicates, train.left_out) == (2, {"near_duplicate": 2})
    assert train.examples == [
        "near_duplicate: t0.jpg (as held-out v0.jpg)",
        "near_duplicate: t1.jpg (as held-out v1.jpg)",
    ]


def test_near_duplicates_are_kept_and_still_counted_when_asked(tmp_path: Path) -> None:
    options = PrepareOptions(splits=("train", "val"), near_duplicates="keep")
    train = prepare(leaky(tmp_path / "data"), tmp_path / "out", options).splits["train"]
    assert (train.rows, train.near_duplicates, train.left_out) == (6, 2, {})


def test_a_plain_picture_is_a_duplicate_of_its_equal_only(tmp_path: Path) -> None:
    rows = []
    for number, (split, colour) in enumerate([("train", "red"), ("train", "blue"), ("val", "red")]):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{number}.png")
        rows.append({"id": number, "image": f"{number}.png", "caption": "A wall.", "split": split})
    write_lines(tmp_path / "pairs.jsonl", rows)
    options = PrepareOptions(splits=("train", "val"))
    prepare(f"jsonl:{tmp_path / 'pairs.jsonl'}", tmp_path / "out", options)
    assert list(open_prepared(tmp_path / "out", "train").ids) == ["1"]


def test_the_same_call_again_finds_its_result(n24news: Fixture, tmp_path: Path) -> None:
    first = prepare(n24news.spec, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert prepare(n24news.spec, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_folder_that_holds_something_else_is_left_alone(n24news: Fixture, tmp_path: Path) -> None:
    prepare(n24news.spec, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(DataError, match="was prepared from another data set"):
        prepare(n24news.spec, tmp_path / "out", PrepareOptions(max_side=64))
    with pytest.raises(DataError, match="no prepared data set: give another folder"):
        prepare(n24news.spec, n24news.root)
    assert snapshot(tmp_path / "out") == before


def test_a_failure_leaves_nothing_that_looks_whole(
    n24news: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = prepare(n24news.spec, tmp_path / "undisturbed")

    def full_disk(folder: Path, facts: PreparedFacts) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model.data.prepare.write_facts", full_disk)
        with pytest.raises(OSError, match="No space left"):
            prepare(n24news.spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepare(n24news.spec, tmp_path / "out") == undisturbed
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "undisturbed")
    assert not (tmp_path / "out.part").exists()


def test_two_runs_into_one_folder_are_refused(n24news: Fixture, tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    with (tmp_path / "out.part" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"out\.part: another process is writing there"):
            prepare(n24news.spec, tmp_path / "out")


def test_pictures_that_are_all_missing_are_one_line(n24news: Fixture, tmp_path: Path) -> None:
    shutil.rmtree(n24news.root / "imgs")
    (n24news.root / "imgs").mkdir()
    with pytest.raises(
        DataError, match=r"n24news train: none of its rows can be used .*missing_image"
    ) as error:
        prepare(n24news.spec, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert str(n24news.root / "imgs") in str(error.value)


def test_a_missing_split_says_how_to_do_without_it(n24news: Fixture, tmp_path: Path) -> None:
    (n24news.root / "news" / "nytimes_test.json").unlink()
    with pytest.raises(
        DataError, match=r"nytimes_test\.json: .*; entityclip prepare without it: --split train --split val$"
    ):
        prepare(n24news.spec, tmp_path / "out")


def test_a_split_that_is_broken_is_not_taken_for_a_missing_one(n24news: Fixture, tmp_path: Path) -> None:
    (n24news.root / "news" / "nytimes_test.json").write_text("[{")
    with pytest.raises(DataError, match=r"nytimes_test\.json: Input data was truncated$"):
        prepare(n24news.spec, tmp_path / "out")


def test_splits_that_are_all_missing_are_not_to_be_done_without(n24news: Fixture, tmp_path: Path) -> None:
    shutil.rmtree(n24news.root / "news")
    with pytest.raises(DataError, match=r"nytimes_train\.json: there is no such file$"):
        prepare(n24news.spec, tmp_path / "out")


def test_a_data_set_without_a_usable_row_says_what_its_rows_lack(tmp_path: Path) -> None:
    no_caption = {"id": 1, "image": "1.jpg", "title": "A", "split": "val"}
    write_lines(tmp_path / "pairs.jsonl", [no_caption, {"caption": "A", "split": "val"}])
    with pytest.raises(DataError, match=r"can be used \(1 empty_caption, 1 incomplete_row\)$"):
        prepare(f"jsonl:{tmp_path / 'pairs.jsonl'}", tmp_path / "out")


def test_a_data_set_whose_rows_name_other_splits_says_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl", [{"id": 1, "image": "1.jpg", "caption": "A", "split": "mine"}])
    with pytest.raises(DataError, match=r"\(it has none; 1 rows of pairs\.jsonl name another split"):
        prepare(f"jsonl:{tmp_path / 'pairs.jsonl'}", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": ("train", "dev")}, "splits are train, val, test, not train, dev"),
        ({"splits": ()}, "not none"),
        ({"near_duplicates": "ignore"}, "is drop or keep"),
        ({"max_side": 8}, "max_side goes from 16"),
        ({"quality": 100}, "quality from 1 to 95"),
    ],
)
def test_impossible_options_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PrepareOptions(**change)  # type: ignore[arg-type]


def test_a_data_set_is_prepared_once_into_the_cache(n24news: Fixture, tmp_path: Path) -> None:
    folder = resolve_prepared(n24news.spec, tmp_path / "cache")
    assert folder.parent == tmp_path / "cache" / "prepared"
    before = (folder / "prepared.json").stat()
    assert resolve_prepared(n24news.spec, tmp_path / "cache") == folder
    assert (folder / "prepared.json").stat() == before


def test_a_picture_that_changes_is_prepared_again(n24news: Fixture, tmp_path: Path) -> None:
    before = resolve_prepared(n24news.spec, tmp_path / "cache")
    picture = n24news.root / "imgs" / f"{read_split(n24news.spec, 'val').samples[0].image}"
    os.utime(picture, ns=(0, 0))
    after = resolve_prepared(n24news.spec, tmp_path / "cache")
    assert after != before
    assert open_prepared(after, "val").fingerprint == open_prepared(before, "val").fingerprint


def test_several_callers_at_once_get_the_same_folder(n24news: Fixture, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: resolve_prepared(n24news.spec, tmp_path / "cache"), range(3)))
    assert len(set(folders)) == 1
    assert open_prepared(folders[0], "train").count == n24news.usable("train")


def test_a_prepared_folder_is_its_own_answer(n24news: Fixture, tmp_path: Path) -> None:
    prepare(n24news.spec, tmp_path / "out")
    assert resolve_prepared(str(tmp_path / "out"), tmp_path / "cache") == tmp_path / "out"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [("nowhere", "nowhere is not there"), ("papers:nowhere", "unknown kind of data set 'papers'")],
)
def test_data_that_is_neither_is_one_line(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        resolve_prepared(data, tmp_path)
