"""Batches from prepared data: every row once an epoch, and the same batch on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.prepare import PrepareOptions, prepare
from model.data.prepared import PreparedSplit, open_prepared
from model.data.sample import DataError
from model.data.training_set import PreparedTraining
from model.training.batches import Batch
from tests.datasets import write_n24news

SIZE, BATCH = 24, 4


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder: Path = tmp_path_factory.mktemp("prepared-training")
    fixture = write_n24news(folder / "data")
    prepare(fixture.spec, folder / "out", PrepareOptions(splits=("train",), max_side=64))
    return open_prepared(folder / "out", "train")


def training(split: PreparedSplit, **options: Any) -> PreparedTraining:
    chosen = {"batch_size": BATCH, "seed": 3, "explanation_dropout": 0.0} | options
    return PreparedTraining(split, SIZE, "center-crop", **chosen)


def assert_same(one: Batch, other: Batch) -> None:
    assert np.array_equal(one.pixels, other.pixels)
    assert (one.captions, one.explanations) == (other.captions, other.explanations)
    assert np.array_equal(one.image_group, other.image_group)
    assert np.array_equal(one.text_group, other.text_group)
    assert one.image_index is not None
    assert other.image_index is not None
    assert np.array_equal(one.image_index, other.image_index)


def test_no_row_repeats_within_an_epoch(split: PreparedSplit) -> None:
    data = training(split)
    assert data.steps_per_epoch == split.count // BATCH == 3
    for epoch in range(4):
        rows = np.concatenate([data.rows(3 * epoch + step) for step in range(3)])
        assert len(set(rows.tolist())) == 12


def test_epochs_have_different_orders(split: PreparedSplit) -> None:
    data = training(split)
    assert data.rows(0).tolist() != data.rows(3).tolist()
    assert data.rows(0).tolist() != training(split, seed=4).rows(0).tolist()


def test_all_rows_come_up_within_a_few_epochs(split: PreparedSplit) -> None:
    data = training(split)
    assert {int(row) for step in range(15) for row in data.rows(step)} == set(range(split.count))


def test_a_batch_holds_the_rows_of_its_step(split: PreparedSplit) -> None:
    data = training(split)
    batch, rows = data.batch(5), data.rows(5)
    assert batch.captions == [split.captions[int(row)] for row in rows]
    assert batch.explanations == [split.explanations[int(row)] for row in rows]
    assert np.array_equal(batch.text_group, split.text_group[rows])
    assert np.array_equal(batch.image_group, split.image_group[rows])
    assert batch.image_index is not None
    assert np.array_equal(batch.image_index, split.image_index[rows])
    assert np.array_equal(batch.pixels, split.pixels(split.image_index[rows], SIZE, "center-crop"))


@pytest.mark.parametrize("crop_scale", [1.0, 0.5])
def test_the_same_step_gives_the_same_batch_in_any_order(split: PreparedSplit, crop_scale: float) -> None:
    options = {"explanation_dropout": 0.5, "crop_scale": crop_scale}
    one, other = training(split, **options), training(split, **options)
    forwards = [one.batch(step) for step in range(5)]
    for step in reversed(range(5)):
        assert_same(other.batch(step), forwards[step])


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_share_the_batch_of_a_single_process(split: PreparedSplit, world_size: int) -> None:
    options = {"explanation_dropout": 0.5, "crop_scale": 0.5}
    ranks = [
        training(split, rank=rank, world_size=world_size, **options).batch(7) for rank in range(world_size)
    ]
    indices = [part.image_index for part in ranks if part.image_index is not None]
    together = Batch(
        pixels=np.concatenate([part.pixels for part in ranks]),
        captions=[caption for part in ranks for caption in part.captions],
        explanations=[text for part in ranks for text in part.explanations],
        image_group=np.concatenate([part.image_group for part in ranks]),
        text_group=np.concatenate([part.text_group for part in ranks]),
        image_index=np.concatenate(indices),
    )
    assert_same(together, training(split, **options).batch(7))


def test_explanations_are_dropped_at_the_given_rate(split: PreparedSplit) -> None:
    data = training(split, explanation_dropout=0.3, decode=False)
    kept = empty = 0
    for step in range(300):
        batch, rows = data.batch(step), data.rows(step)
        for row, text in zip(rows, batch.explanations, strict=True):
            if split.explanations[int(row)]:
                kept += bool(text)
                empty += not text
                assert text in ("", split.explanations[int(row)])
    assert 0.25 < empty / (kept + empty) < 0.35


def test_random_crops_differ_from_step_to_step_and_from_the_plain_picture(split: PreparedSplit) -> None:
    cropped, plain = training(split, crop_scale=0.3, batch_size=14), training(split, batch_size=14)
    order = [np.argsort(plain.rows(step)) for step in range(2)]
    first, second = (cropped.batch(step).pixels[order[step]] for step in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, plain.batch(0).pixels[order[0]])


def test_a_crop_shows_a_part_of_its_picture(split: PreparedSplit) -> None:
    plain, cropped = training(split, batch_size=14), training(split, batch_size=14, crop_scale=0.9)
    difference = plain.batch(0).pixels.astype(float) - cropped.batch(0).pixels
    shuffled = plain.batch(0).pixels.astype(float) - np.roll(cropped.batch(0).pixels, 1, axis=0)
    assert np.abs(difference).mean() < 0.6 * np.abs(shuffled).mean()


def test_without_decoding_there_are_no_pixels_and_all_else_is_the_same(split: PreparedSplit) -> None:
    bare, whole = training(split, decode=False).batch(1), training(split).batch(1)
    assert bare.pixels.shape == (0, SIZE, SIZE, 3)
    assert bare.captions == whole.captions
    assert np.array_equal(bare.image_group, whole.image_group)


def test_the_facts_name_the_data(split: PreparedSplit) -> None:
    facts = training(split).facts()
    assert (facts["name"], facts["split"], facts["rows"]) == ("n24news", "train", 14)
    assert facts["fingerprint"] == split.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 15}, "n24news train has 14 rows, too few for a batch of 15"),
        ({"world_size": 3}, "a batch of 4 cannot be shared evenly by 3 processes"),
        ({"crop_scale": 0.0}, "crop_scale"),
    ],
)
def test_what_cannot_be_is_one_line(split: PreparedSplit, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        training(split, **options)
