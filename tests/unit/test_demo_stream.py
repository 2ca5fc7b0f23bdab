"""The demo's stream: the answer is true, the posts do not give it away, the broken ones are broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.flagnews.captions import templates
from model.flagnews.entities import folds, real_entities
from worker.demo.broken import broken_posts
from worker.demo.judge import Verdict, judge, judge_context, judge_groups, verdict
from worker.demo.stream import PICTURE_SIZE, Answer, Stream, StreamConfig, held_out_fold, write_stream
from worker.errors import InvalidPost, Reason
from worker.posts import decode_post
from worker.transport.base import Partition, Record
from worker.types import Direction, Match

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
SMALL = StreamConfig(
    pairs=4, lone_texts=2, lone_pictures=3, whole=1, swapped=1, unseen_fold=0, unseen_pairs=2, seed=5
)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    return write_stream(tmp_path_factory.mktemp("stream"), SMALL, now=NOW)


def good_posts(stream: Stream) -> dict[str, dict[str, Any]]:
    """id -> post, of those in the answer."""
    posts = {}
    for line in stream.path.read_bytes().splitlines():
        try:
            post = json.loads(line)
        except ValueError:
            continue
        if post.get("id") in stream.answer.text.keys() | stream.answer.picture.keys():
            posts[post["id"]] = post
    return posts


def test_every_post_is_there_once(stream: Stream) -> None:
    assert len(stream.path.read_bytes().splitlines()) == stream.posts == SMALL.good_posts + stream.broken
    answer = stream.answer
    assert good_posts(stream).keys() == answer.text.keys() | answer.picture.keys()
    assert len(good_posts(stream)) == SMALL.good_posts


def test_a_text_names_its_entity_and_a_picture_names_nothing(stream: Stream) -> None:
    for post_id, post in good_posts(stream).items():
        named = stream.answer.text.get(post_id)
        assert ("text" in post, "images" in post) == (named is not None, post_id in stream.answer.picture)
        if named is not None:
            assert named in post["text"]
            assert named not in post["explanation"]
        else:
            assert post.keys() == {"id", "images", "source", "published_at"}
            assert stream.answer.picture[post_id] not in json.dumps(post)


def test_pairs_are_a_text_and_a_picture_of_one_entity(stream: Stream) -> None:
    answer = stream.answer
    both = 2 * SMALL.whole + 2 * SMALL.swapped  # each of these posts pairs with the two posts of a pair
    assert len(answer.pairs) == SMALL.pairs + SMALL.unseen_pairs + both
    assert all(answer.text[text_id] == answer.picture[picture_id] for text_id, picture_id in answer.pairs)


def test_a_swapped_post_shows_what_another_pair_is_about(stream: Stream) -> None:
    answer = stream.answer
    assert (len(answer.both), len(answer.swapped)) == (SMALL.whole + SMALL.swapped, SMALL.swapped)
    others = {entity for post_id, entity in answer.text.items() if post_id not in answer.both}
    for post_id in answer.swapped:
        assert {answer.text[post_id], answer.picture[post_id]} <= others


def test_no_two_entities_look_alike_and_only_the_unseen_are_of_the_held_out_fold(stream: Stream) -> None:
    by_name = {entity.name: entity for entity in real_entities()}
    names = set(stream.answer.text.values()) | set(stream.answer.picture.values())
    looks = [by_name[name].look for name in names]
    assert len(set(looks)) == len(looks)
    assert len(names) == SMALL.pairs + SMALL.unseen_pairs + SMALL.lone_texts + SMALL.lone_pictures
    fold_of = folds(real_entities())
    held_out = {name for name in names if fold_of[by_name[name].look] == SMALL.unseen_fold}
    assert held_out == stream.answer.unseen
    assert len(held_out) == SMALL.unseen_pairs


def test_texts_come_from_the_test_templates(stream: Stream) -> None:
    training = {template.split("{")[0] for template in templates("train") if not template.startswith("{")}
    texts = [post["text"] for post in good_posts(stream).values() if "text" in post]
    assert not [text for text in texts for start in training if len(start) > 12 and text.startswith(start)]


def test_pictures_are_readable_and_lie_beside_the_posts(stream: Stream) -> None:
    paths = [post["images"][0]["path"] for post in good_posts(stream).values() if "images" in post]
    for path in paths:
        with Image.open(stream.path.parent / path) as image:
            assert image.size == (PICTURE_SIZE, PICTURE_SIZE)
    assert len(set(paths)) == len(paths) == len(stream.answer.picture)


def test_the_same_seed_gives_the_same_stream(stream: Stream, tmp_path: Path) -> None:
    again = write_stream(tmp_path / "again", SMALL, now=NOW)
    assert again.path.read_bytes() == stream.path.read_bytes()
    for picture in sorted(path.name for path in (stream.path.parent / "pictures").iterdir()):
        one, other = (folder / "pictures" / picture for folder in (stream.path.parent, again.path.parent))
        assert one.read_bytes() == other.read_bytes()


def test_another_seed_shares_no_id(stream: Stream, tmp_path: Path) -> None:
    other = write_stream(tmp_path, StreamConfig(1, 0, 0, whole=0, swapped=0, seed=6), now=NOW)
    assert not other.answer.text.keys() & stream.answer.text.keys()


def test_more_entities_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="asked for"):
        write_stream(tmp_path, StreamConfig(pairs=1000))


def test_broken_posts_are_refused_for_the_reasons_they_state() -> None:
    posts = broken_posts("x", np.zeros((64, 64, 3), np.uint8))
    image_reasons = {Reason.IMAGE_UNDECODABLE, Reason.IMAGE_TOO_LARGE}
    assert len({post.reason for post in posts}) == len(posts) == 5
    for number, post in enumerate(posts):
        record = Record(Partition("t", 0), number, None, post.line)
        if post.reason in image_reasons:
            assert len(decode_post(record).images) == 1  # the picture is what is broken
        else:
            with pytest.raises(InvalidPost) as caught:
                decode_post(record)
            assert caught.value.reason == post.reason


def test_the_bomb_is_small() -> None:
    bomb = broken_posts("x", np.zeros((8, 8, 3), np.uint8))[-1]
    assert bomb.reason is Reason.IMAGE_TOO_LARGE
    assert len(bomb.line) < 1024


@pytest.mark.parametrize(
    ("training", "fold"),
    [
        ({"data": {"sampling": {"unseen_fold": 3}}}, 3),
        ({"data": {"sampling": {"unseen_fold": None}}}, None),
        ({"data": "text"}, None),
        ({}, None),
    ],
)
def test_the_held_out_fold_is_read_where_it_is_stated(training: dict[str, object], fold: int | None) -> None:
    assert held_out_fold(training) == fold


# -- the judge --------------------------------------------------------------------------------

ANSWER = Answer(
    text={"t1": "Chad", "t2": "Peru", "t3": "Fiji", "right": "Chad", "swapped": "Peru"},
    picture={"p1": "Chad", "p2": "Peru", "right": "Chad", "swapped": "Fiji"},
    unseen=frozenset({"Peru"}),
)


def match(text_id: str, picture_id: str, *out_of_context: str) -> Match:
    return Match(
        match_id=f"{text_id}-{picture_id}",
        text_post_id=text_id,
        image_post_id=picture_id,
        image_id="0",
        window=0,
        same_post=False,
        direction=Direction.TEXT_TO_IMAGE,
        cosine=0.5,
        score=0.9,
        rank=1,
        text="",
        explanation="",
        entities=(),
        model_id="m",
        matched_at=NOW,
        text_published_at=None,
        image_published_at=None,
        image_hash="",
        out_of_context=out_of_context,
    )


def test_matches_are_judged_by_what_both_posts_are_about() -> None:
    assert verdict(match("t1", "p1"), ANSWER) is Verdict.RIGHT
    assert verdict(match("t3", "p1"), ANSWER) is Verdict.WRONG
    assert verdict(match("older", "p1"), ANSWER) is Verdict.UNKNOWN


def test_a_post_is_no_pair_with_itself() -> None:
    partners = {("t1", "p1"), ("t1", "right"), ("right", "p1"), ("t2", "p2"), ("swapped", "p2")}
    assert ANSWER.pairs == partners | {("t3", "swapped")}


def test_precision_and_recall_are_counted_over_pairs() -> None:
    found = judge([match("t1", "p1"), match("t1", "p1"), match("t3", "p1"), match("older", "p2")], ANSWER)
    assert (found.right, found.wrong, found.pairs) == (1, 1, 6)
    assert ("t2", "p2") in found.missed
    assert found.precision == 0.5
    assert found.recall == pytest.approx(1 / 6)
    assert found.partner_of_missed["p2"] in ("t2", "swapped")


def test_seen_and_unseen_looks_are_judged_apart_by_what_the_text_names() -> None:
    groups = judge_groups([match("t1", "p1"), match("t2", "p2"), match("t2", "p1")], ANSWER)
    counts = {name: (each.right, each.wrong, each.pairs) for name, each in groups.items()}
    assert counts == {"seen": (1, 0, 4), "unseen": (1, 1, 2)}


def test_where_all_looks_were_trained_on_there_are_no_groups() -> None:
    assert judge_groups([], Answer({"t": "Chad"}, {"p": "Chad"})) == {}


def test_posts_out_of_context_are_counted_once_and_apart_from_those_wrongly_called_so() -> None:
    found = judge_context(
        [match("swapped", "p2", "swapped"), match("t3", "swapped", "swapped"), match("t1", "right", "right")],
        ANSWER,
    )
    assert (found.flagged_swapped, found.swapped, found.flagged_whole, found.whole) == (1, 1, 1, 1)


def test_without_matches_there_is_no_precision_and_recall_is_zero() -> None:
    nothing = judge([], ANSWER)
    assert nothing.precision is None
    assert nothing.recall == 0.0


def test_without_pairs_there_is_no_recall() -> None:
    assert judge([], Answer({}, {})).recall is None
