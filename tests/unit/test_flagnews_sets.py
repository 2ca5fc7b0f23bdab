"""Banks, training batches and pools: reproducible, distinct looks, nothing shared between the splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.evaluation.flagnews import by_group, colour_word_recall, histogram_recall, recall_by_share
from model.flagnews.bank import BankConfig, PictureBank, load_bank
from model.flagnews.captions import templates
from model.flagnews.entities import folds, invented_entities, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.pools import draw_pools, pool_explanations, seen_mask
from model.flagnews.training_set import FlagNewsTraining, SamplingConfig, derangement
from model.text_mode import TextMode

ENTITIES = len(real_entities())
TRAIN = BankConfig("train", 2 * ENTITIES, size=32, scenes=8)
TEST = BankConfig("test", 2 * ENTITIES, size=32, scenes=8)
SAMPLING = SamplingConfig(batch_size=16, real_fraction=1.0, curriculum_steps=10)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(scope="module")
def train(cache: Path) -> PictureBank:
    return load_bank(TRAIN, cache)


@pytest.fixture(scope="module")
def test(cache: Path) -> PictureBank:
    return load_bank(TEST, cache)


def test_a_bank_goes_round_the_entities(train: PictureBank) -> None:
    assert train.pixels.shape == (2 * ENTITIES, 32, 32, 3)
    assert np.bincount(train.entity).tolist() == [2] * ENTITIES
    assert (train.share > 0.01).all()
    assert (train.share < 0.22).all()


def test_a_bank_is_read_back_without_drawing(train: PictureBank, cache: Path) -> None:
    drawn: list[int] = []
    again = load_bank(TRAIN, cache, on_progress=drawn.append)
    assert drawn == []
    assert np.array_equal(again.pixels, train.pixels)


def test_a_half_drawn_bank_is_drawn_again(train: PictureBank, cache: Path) -> None:
    (cache / TRAIN.name / "index.npz").unlink()
    assert np.array_equal(load_bank(TRAIN, cache).pixels, train.pixels)


def test_splits_share_no_picture(train: PictureBank, test: PictureBank) -> None:
    assert TRAIN.name != TEST.name
    first = {picture.tobytes() for picture in train.pixels}
    assert not any(picture.tobytes() in first for picture in test.pixels)


def test_batches_hold_distinct_seen_looks_and_repeat_for_a_step(train: PictureBank) -> None:
    data = FlagNewsTraining(train, TRAIN, SAMPLING, seed=3)
    fold_of = folds(real_entities())
    batch, again, other = data.batch(5), data.batch(5), data.batch(6)
    assert len(set(batch.image_group)) == 16
    assert all(fold_of[look] != SAMPLING.unseen_fold for look in batch.image_group)
    assert np.array_equal(batch.pixels, again.pixels)
    assert batch.captions == again.captions
    assert not np.array_equal(batch.pixels, other.pixels)


def test_captions_name_the_entity_of_the_picture(train: PictureBank) -> None:
    batch = FlagNewsTraining(train, TRAIN, SAMPLING, seed=3).batch(0)
    names = {entity.look: [] for entity in real_entities()}  # type: dict[int, list[str]]
    for entity in real_entities():
        names[entity.look].append(entity.name)
    for caption, look in zip(batch.captions, batch.image_group, strict=True):
        assert any(name in caption for name in names[int(look)])


def test_small_flags_come_in_with_the_curriculum(train: PictureBank) -> None:
    data = FlagNewsTraining(
        train, TRAIN, SamplingConfig(16, real_fraction=1.0, curriculum_steps=1000, shift=0), 0
    )
    shares = {picture.tobytes(): share for picture, share in zip(train.pixels, train.share, strict=True)}

    def mean_share(step: int) -> float:
        return float(np.mean([shares[p.tobytes()] for s in range(20) for p in data.batch(step + s).pixels]))

    assert mean_share(0) > 1.2 * mean_share(1000)


def test_explanations_are_dropped_at_the_given_rate(train: PictureBank) -> None:
    data = FlagNewsTraining(train, TRAIN, SAMPLING, seed=0)
    texts = [text for step in range(30) for text in data.batch(step).explanations]
    assert 0.12 < sum(not text for text in texts) / len(texts) < 0.28


def _sampled(train: PictureBank, text: TextMode, dropout: float = 0.0) -> FlagNewsTraining:
    sampling = SamplingConfig(16, real_fraction=1.0, text=text, explanation_dropout=dropout)
    return FlagNewsTraining(train, TRAIN, sampling, seed=0)


def test_a_description_stands_in_the_captions_place(train: PictureBank) -> None:
    beside, instead = (_sampled(train, mode).batch(0) for mode in ("caption", "description"))
    assert instead.captions == beside.explanations
    assert instead.explanations == [""] * 16


def test_a_concatenated_text_is_caption_and_explanation(train: PictureBank) -> None:
    beside, joined = (_sampled(train, mode).batch(0) for mode in ("caption", "concat"))
    assert joined.captions == [
        f"{caption} {explanation}"
        for caption, explanation in zip(beside.captions, beside.explanations, strict=True)
    ]


@pytest.mark.parametrize("mode", ["caption", "concat", "description"])
def test_a_dropped_explanation_leaves_the_caption(train: PictureBank, mode: TextMode) -> None:
    batch = _sampled(train, mode, dropout=1.0).batch(0)
    assert batch.captions == _sampled(train, "caption").batch(0).captions
    assert batch.explanations == [""] * 16


def test_shuffled_explanations_are_always_those_of_one_other_look(train: PictureBank) -> None:
    sampling = SamplingConfig(16, real_fraction=1.0, explanation_dropout=0.0, shuffle_explanations=True)
    data = FlagNewsTraining(train, TRAIN, sampling, seed=0)
    look_of = {text: entity.look for entity in real_entities() for text in explanations(entity, "train")}
    given: dict[int, set[int]] = {}
    for step in range(40):
        batch = data.batch(step)
        for look, text in zip(batch.image_group.tolist(), batch.explanations, strict=True):
            given.setdefault(look, set()).add(look_of[text])
    assert all(look not in others for look, others in given.items())
    # a sentence may fit two alike looks, hence "nearly"
    assert sum(len(others) == 1 for others in given.values()) > 0.95 * len(given)


def test_a_derangement_moves_every_item_and_loses_none() -> None:
    items = list(range(10, 60))
    moved = derangement(items)
    assert sorted(moved) == sorted(moved.values()) == items
    assert all(one != other for one, other in moved.items())
    assert moved == derangement(items)
    with pytest.raises(ValueError, match="single item"):
        derangement([1])


def test_pretraining_batches_hold_invented_flags_only(cache: Path) -> None:
    config = BankConfig("train", ENTITIES, size=32, invented_entities=20, invented=20, scenes=8)
    sampling = SamplingConfig(16, real_fraction=0.0, text="description", explanation_dropout=0.0)
    batch = FlagNewsTraining(load_bank(config, cache), config, sampling, seed=0).batch(0)
    invented = {text for entity in invented_entities(20) for text in explanations(entity, "train")}
    assert set(batch.captions) <= invented


def test_a_batch_larger_than_the_looks_is_refused(train: PictureBank) -> None:
    with pytest.raises(ValueError, match="too few"):
        FlagNewsTraining(train, TRAIN, SamplingConfig(batch_size=400), seed=0)


def test_pools_hold_every_look_once_and_share_no_picture(test: PictureBank) -> None:
    first, second = draw_pools(test, 2)
    assert sorted(first.look) == sorted({entity.look for entity in real_entities()})
    used = {picture.tobytes() for picture in first.pixels}
    assert not any(picture.tobytes() in used for picture in second.pixels)
    assert len(templates("test")) >= 60


def test_more_pools_than_pictures_are_refused(test: PictureBank) -> None:
    with pytest.raises(ValueError, match="fewer than 9"):
        draw_pools(test, 9)


def test_explanations_of_a_pool_are_in_the_words_of_the_test_split(test: PictureBank) -> None:
    pool = draw_pools(test, 1)[0]
    entity_of = {entity.look: entity for entity in reversed(real_entities())}
    true = pool_explanations(pool, "true", 3)
    for look, text in zip(pool.look.tolist(), true, strict=True):
        assert text in explanations(entity_of[look], "test")
        assert text not in explanations(entity_of[look], "train")
    assert pool_explanations(pool, "empty", 3) == [""] * len(pool.look)


def test_shuffled_explanations_of_a_pool_describe_other_looks(test: PictureBank) -> None:
    pool = draw_pools(test, 1)[0]
    entity_of = {entity.look: entity for entity in real_entities()}
    shuffled = pool_explanations(pool, "shuffled", 3)
    own = [explanations(entity_of[look], "test") for look in pool.look.tolist()]
    assert not any(text in options for text, options in zip(shuffled, own, strict=True))
    assert len(set(shuffled)) > 200


def test_one_fold_of_looks_is_unseen(test: PictureBank) -> None:
    looks = draw_pools(test, 1)[0].look
    unseen = [~seen_mask(looks, fold) for fold in range(5)]
    assert np.stack(unseen).sum(axis=0).tolist() == [1] * len(looks)
    assert seen_mask(looks, None).all()


def test_recall_is_reported_for_each_group() -> None:
    scores = np.eye(4, dtype=np.float32)
    scores[3] = [1, 1, 1, 0.5]
    groups = by_group([scores], np.array([True, True, True, False]))
    assert groups["seen"]["image_to_text_R@1"] == 1.0
    assert groups["unseen"]["image_to_text_R@1"] == 0.0
    assert groups["unseen"]["image_to_text_R@5"] == 1.0


def test_recall_by_share_splits_the_pictures(test: PictureBank) -> None:
    pools = draw_pools(test, 2)
    count = len(pools[0].look)
    perfect = [np.eye(count, dtype=np.float32)] * 2
    by_share = recall_by_share(perfect, pools, np.ones(count, bool), [0.015, 0.06, 0.21])
    assert by_share == {"0.015-0.060": 1.0, "0.060-0.210": 1.0}


def test_colour_histogram_finds_plain_colours_of_seen_looks_only() -> None:
    entities = real_entities()
    looks = sorted({entity.look for entity in entities})
    rng = np.random.default_rng(0)
    colours = rng.permutation(np.stack(np.meshgrid(*[np.arange(16, 256, 32)] * 3), -1).reshape(-1, 3))
    of_look = {look: colours[2 * index] // 64 * 64 + 32 for index, look in enumerate(looks)}
    pixels = np.stack([np.full((8, 8, 3), of_look[entity.look], np.uint8) for entity in entities])
    bank = PictureBank(pixels, np.arange(len(entities)), np.full(len(entities), 0.1, np.float32), entities)
    pools = draw_pools(bank, 1)
    seen = seen_mask(pools[0].look, 0)
    result = histogram_recall(bank, pools, seen)
    # 64 colours for 225 looks: the right one is among the few of its colour, but not alone
    assert result["seen"]["image_to_text_R@10"] > 0.8
    assert result["unseen"]["image_to_text_R@10"] == 0.0


def test_colour_words_alone_find_many_looks_but_not_all(test: PictureBank) -> None:
    pools = draw_pools(test, 2)
    seen = seen_mask(pools[0].look, 0)
    result = colour_word_recall(pools, seen, seed=2)
    for group in ("seen", "unseen"):
        assert 0.15 < result[group]["image_to_text_R@1"] < 0.6
        assert result[group]["image_to_text_R@10"] > result[group]["image_to_text_R@1"]
