"""What is particular to each benchmark's files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from model.data.files import relative_path
from model.data.readers import SPLITS, read_split
from model.data.rows import seeded_split
from model.data.sample import DataError, LeftOut
from tests.datasets import (
    pack,
    write_goodnews_derived,
    write_goodnews_official,
    write_mbeir,
    write_n24news,
    write_visualnews_official,
    write_visualnews_published,
)


def _rewrite(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def test_n24news_calls_one_section_by_one_name(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path)
    written = {record["section"] for record in json.loads((tmp_path / "news/nytimes_train.json").read_text())}
    assert {"Fashion", "Fashion & Style"} < written
    sections = Counter(sample.section for sample in read_split(fixture.spec, "train").samples)
    assert set(sections) == {"World", "Sports", "Fashion & Style"}


def test_n24news_reads_whole_numbers_as_image_ids(tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path, traps=False)
    _rewrite(tmp_path / "news/nytimes_dev.json", [{"image_id": 100000000012, "caption": "A caption"}])
    (sample,) = read_split(fixture.spec, "val").samples
    assert (sample.id, sample.image) == ("100000000012", "100000000012.jpg")


def test_visualnews_paths_lose_what_differs_between_machines() -> None:
    assert relative_path("./washington_post/images/0376/501.jpg") == "washington_post/images/0376/501.jpg"
    assert relative_path("/bbc//images\\0001\\002.jpg") == "bbc/images/0001/002.jpg"


@pytest.mark.parametrize("path", ["", "./", "../../etc/passwd", "a/../../b.jpg", "a\0.jpg"])
def test_a_path_that_leads_nowhere_below_the_folder_is_none(path: str) -> None:
    assert relative_path(path) == ""


def test_visualnews_published_files_are_read_before_the_official_one(tmp_path: Path) -> None:
    write_visualnews_official(tmp_path)
    published = write_visualnews_published(tmp_path, traps=False)
    found = read_split(published.spec, "train")
    assert len(found.samples) == published.read["train"]
    assert found.notes[0] == "published split: train.json"


def test_visualnews_missing_published_split_is_not_taken_from_the_official_file(tmp_path: Path) -> None:
    write_visualnews_official(tmp_path)
    published = write_visualnews_published(tmp_path)
    (tmp_path / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json: there is no such file"):
        read_split(published.spec, "val")


def test_visualnews_official_is_also_found_from_inside_its_folder(tmp_path: Path) -> None:
    fixture = write_visualnews_official(tmp_path)
    inside = read_split(f"visualnews:{tmp_path / 'origin'}", "train")
    assert inside.samples == read_split(fixture.spec, "train").samples
    assert inside.images == tmp_path / "origin"


def test_visualnews_official_file_that_is_still_packed_is_to_be_taken_out(tmp_path: Path) -> None:
    fixture = write_visualnews_official(tmp_path)
    pack(tmp_path, "origin")
    (tmp_path / "origin" / "data.json").unlink()
    with pytest.raises(DataError, match=r"no origin/data\.json: take it out of .*origin\.tar$"):
        read_split(fixture.spec, "train")


def test_visualnews_says_how_the_official_file_was_split(tmp_path: Path) -> None:
    notes = read_split(write_visualnews_official(tmp_path).spec, "train").notes
    assert notes == ["data.json of 44 rows, split by article: 90 % train, 5 % val, 5 % test"]


def test_visualnews_official_splits_part_no_article(tmp_path: Path) -> None:
    fixture = write_visualnews_official(tmp_path)
    path = tmp_path / "origin" / "data.json"
    records = json.loads(path.read_text())
    for number, record in enumerate(records):
        record["article_path"] = f"./bbc/articles/{number // 2}.txt"
    _rewrite(path, records)
    articles = [{s.article for s in read_split(fixture.spec, split).samples} for split in SPLITS]
    assert sum(map(len, articles)) == len(set().union(*articles)) > 1


def test_a_seeded_split_has_its_shares() -> None:
    shares = Counter(seeded_split(f"bbc/articles/{number}.txt") for number in range(20_000))
    assert shares["train"] == pytest.approx(18_000, abs=200)
    assert shares["val"] == pytest.approx(1_000, abs=120)
    assert shares["test"] == pytest.approx(1_000, abs=120)


def test_a_seeded_split_stays_what_it_was() -> None:
    splits = [seeded_split(f"guardian/articles/{number}.txt") for number in range(80)]
    assert [number for number, split in enumerate(splits) if split == "val"] == [16, 39]
    assert [number for number, split in enumerate(splits) if split == "test"] == [55, 79]


def test_goodnews_leaves_out_what_is_listed_as_broken(tmp_path: Path) -> None:
    fixture = write_goodnews_derived(tmp_path)
    first = read_split(fixture.spec, "val").samples[0]
    with (tmp_path / "broken_images.txt").open("a") as file:
        file.write(first.image)  # the last line need not end
    found = read_split(fixture.spec, "val")
    assert found.left_out[LeftOut.LISTED_AS_BROKEN] == fixture.left_out["val"][LeftOut.LISTED_AS_BROKEN] + 1
    assert first.id not in {sample.id for sample in found.samples}


def test_goodnews_needs_no_list_of_broken_pictures(tmp_path: Path) -> None:
    fixture = write_goodnews_derived(tmp_path)
    (tmp_path / "broken_images.txt").unlink()
    assert LeftOut.LISTED_AS_BROKEN not in read_split(fixture.spec, "val").left_out


def test_goodnews_line_ends_of_windows_leave_the_captions(tmp_path: Path) -> None:
    fixture = write_goodnews_derived(tmp_path, explanations=False)
    _rewrite(
        tmp_path / "new_goodnews_capim_val.json",
        [{"image_id": "a_0.jpg", "captioning": "One\r\ntwo thr\ree\r\n", "title": "Title"}],
    )
    assert [sample.caption for sample in read_split(fixture.spec, "val").samples] == ["One two three"]


@pytest.mark.parametrize("name", ["article+caption.json", "captioning_dataset.json"])
def test_goodnews_official_file_has_two_names(name: str, tmp_path: Path) -> None:
    fixture = write_goodnews_official(tmp_path, captions_file=name)
    found = read_split(fixture.spec, "train")
    assert len(found.samples) == fixture.read["train"]
    assert found.notes == [f"official: {name}; 0 of its captions are in no split"]


def test_goodnews_rows_of_another_split_are_noted(tmp_path: Path) -> None:
    fixture = write_goodnews_official(tmp_path)
    path = tmp_path / "img_splits.json"
    splits = json.loads(path.read_text())
    _rewrite(path, {key: "dev" if split == "val" else split for key, split in splits.items()})
    number = sum(split == "val" for split in splits.values())
    note = f"{number} rows of img_splits.json name another split than train, val and test"
    assert read_split(fixture.spec, "val").notes[-1] == note


def test_goodnews_pictures_of_one_article_share_it(tmp_path: Path) -> None:
    samples = read_split(write_goodnews_official(tmp_path).spec, "train").samples
    assert all(sample.id.startswith(f"{sample.article}_") for sample in samples)
    assert len({sample.article for sample in samples}) < len(samples)


def test_mbeir_pairs_of_both_tasks_are_one_row(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path, traps=False)
    both = read_split(fixture.spec, "val").samples
    (tmp_path / "query/val/mbeir_visualnews_task3_val.jsonl").unlink()
    assert read_split(fixture.spec, "val").samples == both


def test_mbeir_image_queries_alone_give_the_pairs_that_they_have(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path, traps=False)
    both = {(s.image, s.caption) for s in read_split(fixture.spec, "val").samples}
    (tmp_path / "query/val/mbeir_visualnews_task0_val.jsonl").unlink()
    from_images = {(s.image, s.caption) for s in read_split(fixture.spec, "val").samples}
    assert from_images < both
    assert len(from_images) == len(both) - 1  # the writer gives the first pair to the text query alone


def test_mbeir_answers_that_are_not_relevant_are_no_pairs(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path, traps=False)
    qrels = tmp_path / "qrels/train/mbeir_visualnews_train_qrels.txt"
    lines = qrels.read_text().splitlines()
    last_image = lines[fixture.read["train"] - 1].split()[2]
    with qrels.open("a") as file:
        file.write(f"0:1 0 {last_image} 0 0\n")
    assert len(read_split(fixture.spec, "train").samples) == fixture.read["train"]


def test_mbeir_broken_qrels_name_file_and_line(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path)
    qrels = tmp_path / "qrels/test/mbeir_visualnews_task0_test_qrels.txt"
    qrels.write_text(qrels.read_text() + "0:1 0\n")
    with pytest.raises(
        DataError, match=r"task0_test_qrels\.txt line \d+: expected `qid 0 did relevance task`"
    ):
        read_split(fixture.spec, "test")


def test_mbeir_a_pool_that_is_missing_is_noted(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path)
    (tmp_path / "cand_pool/local/mbeir_visualnews_task3_cand_pool.jsonl").unlink()
    notes = read_split(fixture.spec, "train").notes
    assert (
        notes[-1] == "there is no mbeir_visualnews_task3_cand_pool.jsonl: what it holds are incomplete rows"
    )


def test_mbeir_without_candidates_is_one_line(tmp_path: Path) -> None:
    fixture = write_mbeir(tmp_path)
    for pool in (tmp_path / "cand_pool/local").iterdir():
        pool.unlink()
    with pytest.raises(DataError, match="neither mbeir_visualnews_task0_cand_pool"):
        read_split(fixture.spec, "test")
