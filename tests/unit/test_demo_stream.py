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
from worker.demo.judge import Verdict, judge, verdict
from worker.demo.stream import PICTURE_SIZE, Answer, Stream, StreamConfig, held_out_fold, write_stream
from worker.errors import InvalidPost, Reason
from worker.posts import decode_post
from worker.transport.base import Partition, Record
from worker.types import Direction, Match

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
SMALL = StreamConfig(pairs=4, lone_texts=2, lone_pictures=3, unseen_fold=0, seed=5)


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
        if post.get("id") in stream.answer.entity:
            posts[post["id"]] = post
    return posts


def test_every_post_is_there_once(stream: Stream) -> None:
    assert len(stream.path.read_bytes().splitlines()) == stream.posts == SMALL.good_posts + stream.broken
    assert good_posts(stream).keys() == stream.answer.entity.keys()
    assert len(stream.answer.entity) == SMALL.good_posts


def test_a_text_names_its_entity_and_a_picture_names_nothing(stream: Stream) -> None:
    for post_id, post in good_posts(stream).items():
        entity = stream.answer.entity[post_id]
        if "text" in post:
            assert entity in post["text"]
            assert entity not in post["explanation"]
            assert "images" not in post
        else:
            assert post.keys() == {"id", "images", "source", "published_at"}
            assert entity not in json.dumps(post)


def test_pairs_are_a_text_and_a_picture_of_one_entity(stream: Stream) -> None:
    posts = good_posts(stream)
    assert len(stream.answer.pairs) == SMALL.pairs
    for text_id, picture_id in stream.answer.pairs:
        assert "text" in posts[text_id]
        assert "images" in posts[picture_id]
        assert stream.answer.entity[text_id] == stream.answer.entity[picture_id]


def test_no_two_entities_look_alike_and_none_is_unseen(stream: Stream) -> None:
    by_name = {entity.name: entity for entity in real_entities()}
    looks = [by_name[name].look for name in set(stream.answer.entity.values())]
    assert len(set(looks)) == len(looks) == SMALL.pairs + SMALL.lone_texts + SMALL.lone_pictures
    fold_of = folds(real_entities())
    assert all(fold_of[look] != SMALL.unseen_fold for look in looks)


def test_texts_come_from_the_test_templates(stream: Stream) -> None:
    training = {template.split("{")[0] for template in templates("train") if not template.startswith("{")}
    texts = [post["text"] for post in good_posts(stream).values() if "text" in post]
    assert not [text for text in texts for start in training if len(start) > 12 and text.startswith(start)]


def test_pictures_are_readable_and_lie_beside_the_posts(stream: Stream) -> None:
    paths = [post["images"][0]["path"] for post in good_posts(stream).values() if "images" in post]
    for path in paths:
        with Image.open(stream.path.parent / path) as image:
            assert image.size == (PICTURE_SIZE, PICTURE_SIZE)
    assert len(set(paths)) == SMALL.pairs + SMALL.lone_pictures


def test_the_same_seed_gives_the_same_stream(stream: Stream, tmp_path: Path) -> None:
    again = write_stream(tmp_path / "again", SMALL, now=NOW)
    assert again.path.read_bytes() == stream.path.read_bytes()
    for picture in sorted(path.name for path in (stream.path.parent / "pictures").iterdir()):
        one, other = (folder / "pictures" / picture for folder in (stream.path.parent, again.path.parent))
        assert one.read_bytes() == other.read_bytes()


def test_another_seed_shares_no_id(stream: Stream, tmp_path: Path) -> None:
    other = write_stream(tmp_path, StreamConfig(pairs=1, lone_texts=0, lone_pictures=0, seed=6), now=NOW)
    assert not other.answer.entity.keys() & stream.answer.entity.keys()


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
    entity={"t1": "Chad", "p1": "Chad", "t2": "Peru", "p2": "Peru", "t3": "Fiji"},
    pairs=frozenset({("t1", "p1"), ("t2", "p2")}),
)


def match(text_id: str, picture_id: str) -> Match:
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
    )


def test_matches_are_judged_by_what_both_posts_are_about() -> None:
    assert verdict(match("t1", "p1"), ANSWER) is Verdict.RIGHT
    assert verdict(match("t3", "p1"), ANSWER) is Verdict.WRONG
    assert verdict(match("older", "p1"), ANSWER) is Verdict.UNKNOWN


def test_precision_and_recall_are_counted_over_pairs() -> None:
    found = judge([match("t1", "p1"), match("t1", "p1"), match("t3", "p1"), match("older", "p2")], ANSWER)
    assert (found.right, found.wrong, found.pairs) == (1, 1, 2)
    assert found.missed == (("t2", "p2"),)
    assert found.precision == 0.5
    assert found.recall == 0.5
    assert found.partner_of_missed == {"t2": "p2", "p2": "t2"}


def test_without_matches_there_is_no_precision_and_recall_is_zero() -> None:
    nothing = judge([], ANSWER)
    assert nothing.precision is None
    assert nothing.recall == 0.0


def test_without_pairs_there_is_no_recall() -> None:
    assert judge([], Answer({}, frozenset())).recall is None
