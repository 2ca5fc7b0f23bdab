"""The benchmark of matching: what their numbers are counted from, and it once, small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matching_posts import Mix, Planned, Truth, halves, pictures_needed, plan
from benchmarks.matching_report import Options, markdown
from benchmarks.matching_scores import emission, flags
from benchmarks.matching_stream import measure_stream
from model.flagnews.entities import folds, real_entities

MIX = Mix(pairs=3, lone_texts=1, lone_pictures=1, right=2, swapped=2)


def test_the_two_halves_share_no_look_and_split_the_unseen_ones_evenly() -> None:
    one, two = halves(0, seed=3)
    unseen = {look for look, fold in folds(real_entities()).items() if fold == 0}
    assert not set(one) & set(two)
    assert abs(len(unseen & set(one)) - len(unseen & set(two))) <= 1


def test_a_stream_holds_what_its_mix_says() -> None:
    planned = plan(list(range(50)), 1, MIX, "a", seed=0)
    truth = Truth.of(planned)
    assert len(planned) == MIX.posts
    assert (len(truth.both), len(truth.swapped)) == (4, 2)
    assert len(truth.pairs) == MIX.pairs + MIX.right + MIX.swapped


def test_posts_of_two_streams_are_no_pair() -> None:
    truth = Truth.of([Planned("a", 0, text=5, picture=None), Planned("b", 1, text=None, picture=5)])
    assert not truth.pairs


def test_a_posts_own_text_and_picture_are_no_pair() -> None:
    truth = Truth.of([Planned("a", 0, text=5, picture=5), Planned("b", 0, text=None, picture=5)])
    assert truth.pairs == {("a", "b")}


def test_pictures_needed_is_of_the_look_shown_most() -> None:
    planned = [Planned("a", 0, None, 1), Planned("b", 1, 2, 1), Planned("c", 1, None, 2)]
    assert pictures_needed(planned) == 2


def test_a_plan_refuses_more_looks_than_there_are() -> None:
    with pytest.raises(ValueError, match="a stream holds 11 looks, there are 3"):
        plan([1, 2, 3], 1, MIX, "a", seed=0)


@pytest.fixture
def truth() -> Truth:
    """Text a and picture b of look 1; text c, without a partner, of look 2; picture d of look 3."""
    return Truth.of(
        [
            Planned("a", 0, 1, None),
            Planned("b", 0, None, 1),
            Planned("c", 0, 2, None),
            Planned("d", 0, None, 3),
        ]
    )


def test_emission_counts_wrong_matches_against_precision_alone(truth: Truth) -> None:
    found = emission([("a", "b"), ("c", "d")], truth, {1, 2, 3})
    assert (found.precision, found.recall, found.coverage) == (0.5, 1.0, 1.0)


def test_emission_leaves_out_texts_of_other_looks(truth: Truth) -> None:
    found = emission([("a", "b"), ("c", "d")], truth, {2})
    assert (found.emitted, found.precision, found.pairs) == (1, 0.0, 0)


def test_a_wrong_match_covers_a_post_that_has_a_partner(truth: Truth) -> None:
    assert emission([("a", "d")], truth, {1}).coverage == 0.5


def test_no_match_has_no_precision(truth: Truth) -> None:
    assert emission([], truth, {1}).precision is None


def test_without_matches_nothing_is_flagged() -> None:
    truth = Truth.of([Planned("a", 0, 1, 2), Planned("b", 0, None, 1)])
    found = flags([], truth)
    assert (found.swapped, found.flagged, found.matched_swapped) == (1, 0, 0)


@pytest.mark.slow
def test_the_worker_is_measured_on_drawn_streams(tmp_path: Path) -> None:
    options = Options("tiny", streams=1, mix=MIX, scenes=2, plain=False)
    result = measure_stream(options, tmp_path / "work", tmp_path / "cache")
    assert result.posts == 2 * MIX.posts
    assert all(variant.quality.right > 0 for variant in result.variants)
    assert "Out of context" in markdown(result, options)
