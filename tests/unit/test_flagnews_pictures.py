"""FlagNews: scenes, photographs, wording, and the evaluation set on real photographs."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.flagnews.caption_templates import WHEN, WHERE, WHO
from model.flagnews.captions import caption, templates
from model.flagnews.cloth import Bytes
from model.flagnews.compose import SHARE_RANGE, draw_share, load_backgrounds, take_photograph
from model.flagnews.photo import find_sources, photo_sets
from model.flagnews.scenery import TEST_MOODS, TRAIN_MOODS
from model.flagnews.scenes import SceneKind, Split, draw_scene, scene_bank, scene_kinds, scene_rng
from model.flagnews.staging import LARGEST_COVER, draw_cover

SIZE = 96
SPLITS: tuple[Split, Split] = ("train", "test")
TEST_DATA = Path(
    os.environ.get("ENTITYCLIP_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")
)
needs_data = pytest.mark.skipif(
    not (TEST_DATA / "pairs.jsonl").is_file(),
    reason=f"no pairs.jsonl in {TEST_DATA}: set ENTITYCLIP_TEST_DATA to the folder of the test data",
)
# what a flag looks like, in any of the words a caption could use for it
_LOOKS = """
    red reddish blue navy azure green white black yellow gold golden orange purple violet pink brown
    grey gray silver crimson scarlet maroon turquoise teal olive beige rose ivory amber colour
    colours color colors coloured colorful colourful tricolour tricolor dark bright pale pastel flag
    flags banner banners pennant ensign emblem emblems shield shields crest coat canton border
    stripe stripes striped band bands bar bars cross crosses saltire star stars crescent moon sun
    sunburst triangle triangles disc disk circle circles ring square rectangle diagonal horizontal
    vertical diamond field eagle lion dragon bird leaf tree cedar wheel sword crown map union hoist
    fly
"""
FORBIDDEN = frozenset(re.findall(r"\w+", _LOOKS))


def plain_flag(red: int, green: int, blue: int, width: int = 96, height: int = 64) -> Bytes:
    return np.full((height, width, 3), (red, green, blue), dtype=np.uint8)


@pytest.fixture(scope="module")
def scenes() -> list[Bytes]:
    return scene_bank("train", 16, 128)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_all_kinds_of_scene(split: Split) -> None:
    assert set(scene_kinds(split)) == {
        "street", "harbour", "skyline", "stadium", "podium", "crowd", "interior", "field",
    }  # fmt: skip


@pytest.mark.parametrize("kind", scene_kinds("train"))
def test_scene_is_the_same_for_a_seed_and_another_for_the_next(kind: SceneKind) -> None:
    first, again, other = (draw_scene(kind, scene_rng("train", index), SIZE) for index in (0, 0, 1))
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 8


def test_scenes_of_training_and_test_have_no_light_and_no_stream_in_common() -> None:
    assert {mood.name for mood in TRAIN_MOODS}.isdisjoint(mood.name for mood in TEST_MOODS)
    assert {mood.sky_top for mood in TRAIN_MOODS}.isdisjoint(mood.sky_top for mood in TEST_MOODS)
    draws = [scene_rng(split, index).random() for split in SPLITS for index in range(200)]
    assert len(set(draws)) == len(draws)


def test_any_two_scenes_of_a_bank_differ() -> None:
    bank = [*scene_bank("train", 24, 48), *scene_bank("test", 24, 48)]
    gaps = [np.abs(one.astype(int) - two).mean() for one, two in itertools.combinations(bank, 2)]
    assert min(gaps) > 5


def test_unknown_kind_and_unknown_split_are_named() -> None:
    with pytest.raises(ValueError, match="volcano"):
        draw_scene("volcano", np.random.default_rng(0), SIZE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holdout"):
        scene_kinds("holdout")  # type: ignore[arg-type]


def test_photograph_is_the_same_for_a_seed_and_another_for_the_next(scenes: list[Bytes]) -> None:
    first, again, other = (
        take_photograph(
            scenes[0], plain_flag(200, 30, 40), np.random.default_rng(seed), share=0.05, size=SIZE
        )
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first.pixels, again.pixels)
    assert first.box == again.box
    assert not np.array_equal(first.pixels, other.pixels)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(*SHARE_RANGE),
    size=st.sampled_from([64, 96, 160]),
    width=st.integers(40, 220),
)
def test_flag_takes_the_wanted_share_and_lies_inside(seed: int, share: float, size: int, width: int) -> None:
    scene = np.full((size, size + 20, 3), 128, dtype=np.uint8)
    photograph = take_photograph(
        scene, plain_flag(10, 60, 190, width, 64), np.random.default_rng(seed), share=share, size=size
    )
    left, top, right, bottom = photograph.box
    assert photograph.pixels.shape == (size, size, 3)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.share == pytest.approx(share, rel=0.04)
    assert 0 <= left < right <= size
    assert 0 <= top < bottom <= size
    # a box smaller than the flag would be another thing's
    assert (right - left) * (bottom - top) >= photograph.share * size * size * 0.99


@pytest.mark.parametrize(("colour", "channel"), [((215, 20, 30), 0), ((10, 150, 50), 1), ((20, 40, 200), 2)])
@pytest.mark.parametrize("share", [0.02, 0.15])
def test_flag_keeps_a_recognisable_colour(
    scenes: list[Bytes], colour: tuple[int, int, int], channel: int, share: float
) -> None:
    grey = plain_flag(128, 128, 128)
    gains = []
    for seed in range(24):
        shown = []
        for flag in (plain_flag(*colour), grey):  # one stream, so the two pictures differ in the flag alone
            photograph = take_photograph(
                scenes[seed % 16], flag, np.random.default_rng(seed), share=share, size=SIZE
            )
            left, top, right, bottom = photograph.box
            mean = photograph.pixels[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
            shown.append(mean[channel] - np.delete(mean, channel).mean())
        gains.append(shown[0] - shown[1])
    assert min(gains) > 12
    assert float(np.median(gains)) > 40


def test_hoist_stays_on_the_left_or_on_top(scenes: list[Bytes]) -> None:
    flag = plain_flag(230, 230, 230)
    flag[:, :48] = (200, 20, 30)
    for seed in range(30):
        photograph = take_photograph(scenes[0], flag, np.random.default_rng(seed), share=0.2, size=SIZE)
        left, top, right, bottom = photograph.box
        cut = photograph.pixels[top:bottom, left:right].astype(int)
        redness = cut[..., 0] - cut[..., 1:].mean(axis=2)  # [h, w]
        height, width = redness.shape
        leftwards = redness[:, : width // 2].mean() - redness[:, width // 2 :].mean()
        upwards = redness[: height // 2].mean() - redness[height // 2 :].mean()
        assert max(leftwards, upwards) > 10


def test_cover_hides_something_and_never_more_than_its_bound() -> None:
    rng = np.random.default_rng(0)
    hidden = [float(draw_cover(np.ones((40, 60), dtype=np.float32), rng).mean()) for _ in range(200)]
    assert max(hidden) <= LARGEST_COVER + 1e-3
    assert float(np.median(hidden)) > 0.03


def test_shares_are_log_uniform_over_their_range() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([draw_share(rng) for _ in range(4000)])
    assert shares.min() >= SHARE_RANGE[0]
    assert shares.max() <= SHARE_RANGE[1]
    middle = np.sqrt(SHARE_RANGE[0] * SHARE_RANGE[1])
    assert (shares < middle).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("scene", "share", "size", "told"),
    [
        (np.zeros((96, 96), np.uint8), 0.1, 96, "scene"),
        (np.zeros((96, 96, 3), np.float32), 0.1, 96, "scene"),
        (np.zeros((96, 96, 3), np.uint8), 0.6, 96, "share"),
        (np.zeros((96, 96, 3), np.uint8), 0.1, 16, "size"),
    ],
)
def test_wrong_input_is_named(scene: Bytes, share: float, size: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        take_photograph(scene, plain_flag(1, 2, 3), np.random.default_rng(0), share=share, size=size)


def test_a_folder_of_photographs_serves_as_backgrounds(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (9, 120, 40)).save(tmp_path / "b.png")
    Image.new("L", (50, 80), 77).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    grey, green = load_backgrounds(tmp_path, 64)
    assert grey.shape == green.shape == (64, 64, 3)
    assert green[32, 32].tolist() == [9, 120, 40]
    assert abs(int(grey.mean()) - 77) <= 2


def test_missing_empty_and_broken_backgrounds_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_backgrounds(tmp_path / "absent", 64)
    with pytest.raises(FileNotFoundError, match="no picture"):
        load_backgrounds(tmp_path, 64)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        load_backgrounds(tmp_path, 64)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["Saint Lucia", "Ivory Coast", "Netherlands", "Velmora"])
def test_caption_names_the_entity_once_in_a_short_sentence(split: Split, name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        sentence = caption(name, rng, split)
        assert sentence.count(name) == 1
        assert "{" not in sentence
        assert sentence[0] == sentence[0].upper()
        assert len(sentence.split()) <= 20


@pytest.mark.parametrize("text", [*templates("train"), *templates("test"), *WHO, *WHERE, *WHEN])
def test_wording_says_nothing_about_looks(text: str) -> None:
    assert FORBIDDEN.isdisjoint(re.findall(r"[a-z]+", text.lower()))


def test_templates_are_many_and_disjoint() -> None:
    train, test = templates("train"), templates("test")
    assert len(set(train)) == len(train) >= 120
    assert len(set(test)) == len(test) >= 60
    assert set(train).isdisjoint(test)
    assert all(template.count("{name}") == 1 for template in train + test)


def test_name_stands_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    for split in SPLITS:
        starts = sum(template.startswith("{name}") for template in templates(split))
        ends = sum(template.endswith("{name}") for template in templates(split))
        assert min(starts, ends) >= 4
        assert starts + ends < len(templates(split)) / 2


def test_sentences_are_many_and_none_of_test_occurs_in_training() -> None:
    rng = np.random.default_rng(0)
    train, test = ({caption("Saint Lucia", rng, split) for _ in range(4000)} for split in SPLITS)
    assert len(train) > 2000
    assert len(test) > 1500
    assert train.isdisjoint(test)


def test_caption_without_a_name_and_of_an_unknown_split_are_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        caption(" ", np.random.default_rng(0), "train")
    with pytest.raises(ValueError, match="holdout"):
        caption("Velmora", np.random.default_rng(0), "holdout")  # type: ignore[arg-type]


def test_photo_set_without_its_data_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ENTITYCLIP_TEST_DATA"):
        next(photo_sets(tmp_path, SIZE, 0))
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(ValueError, match="0 flags"):
        find_sources(tmp_path)


@needs_data
def test_photo_set_holds_every_real_flag_once_and_depends_on_its_seed() -> None:
    sources = find_sources(TEST_DATA)
    pool = list(photo_sets(TEST_DATA, 64, 0))
    assert len(pool) == len(sources.flags) == 255
    assert [code for code, _ in pool] == [code for code, _ in sources.flags]
    assert len({code for code, _ in pool}) == 255
    assert {picture.pixels.shape for _, picture in pool} == {(64, 64, 3)}
    assert np.array_equal(next(photo_sets(TEST_DATA, 64, 0))[1].pixels, pool[0][1].pixels)
    assert not np.array_equal(next(photo_sets(TEST_DATA, 64, 1))[1].pixels, pool[0][1].pixels)


@needs_data
def test_photo_set_uses_photographs_alone() -> None:
    sources = find_sources(TEST_DATA)
    assert len(sources.photographs) > 300
    assert {path.parent.name for path in sources.photographs} == {
        "fsa_owi", "documerica", "landmarks", "nasa", "gov_blog",
    }  # fmt: skip
