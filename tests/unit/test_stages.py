"""The steps of the stages: encode, index, emit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import MemorySink, prepared, record
from worker.dead_letters import message_bytes
from worker.errors import FatalError, InvalidPost, Reason, TransientError
from worker.ids import image_point_id, match_id, text_point_id
from worker.index import Point
from worker.observe.metrics import Metrics
from worker.stages.emit import Emit, SizeLimits
from worker.stages.encode import Encode
from worker.stages.index import Index
from worker.stages.points import own_cosines
from worker.stages.times import StageTimes
from worker.types import (
    DeadLettered,
    Direction,
    Dropped,
    Encoded,
    Match,
    Matched,
    Outcome,
    Pixels,
    Prepared,
    TakeDown,
    Unmatched,
)
from worker.wire import decode_match

DIM = 3


class FlakyEncoder:
    """Raises over any batch that holds the text `bad`; a text `nan` has no vector."""

    image_size = 4
    dim = DIM

    def __init__(self) -> None:
        self.calls = 0
        self.broken = False

    def encode_images(self, pixels: Pixels) -> NDArray[np.float32]:
        return np.ones((len(pixels), DIM), np.float32)

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        if "bad" in texts:
            raise RuntimeError("size mismatch\nand a long story")
        return np.array([[np.nan if text == "nan" else 1.0] * DIM for text in texts], np.float32)

    def warm_up(self) -> None:
        if self.broken:
            raise RuntimeError("device lost")


def posts_of(*texts: str) -> list[Prepared]:
    return [prepared(f"p{n}", images=1, windows=(text,)) for n, text in enumerate(texts)]


def test_post_that_breaks_the_encoder_fails_alone() -> None:
    encoder = FlakyEncoder()
    results = Encode(encoder, "m")(posts_of("a", "b", "c", "bad", "e", "f", "g", "h"))
    kinds = [type(result) for result in results]
    assert kinds == [Encoded] * 3 + [DeadLettered] + [Encoded] * 4
    refused = results[3]
    assert isinstance(refused, DeadLettered)
    assert (refused.reason, refused.stage) == (Reason.ENCODING_FAILED, "encode")
    assert refused.detail == "RuntimeError: size mismatch"
    assert encoder.calls == 7  # 8, 4, 2, 1 + 1, 2, 4: by halves, not one by one


def test_post_without_a_finite_vector_fails_alone() -> None:
    results = Encode(FlakyEncoder(), "m")(posts_of("a", "nan", "c"))
    assert [type(result) for result in results] == [Encoded, DeadLettered, Encoded]


def test_encoder_that_fails_on_everything_is_fatal() -> None:
    encoder = FlakyEncoder()
    encoder.broken = True
    with pytest.raises(FatalError, match="device lost"):
        Encode(encoder, "m")(posts_of("a", "bad"))


def test_points_carry_their_own_vectors_and_ids() -> None:
    posts = [
        prepared("a", images=2, windows=("x",)),
        prepared("b", windows=("y", "z")),
        prepared("c", images=1),
    ]
    first, second, third = Encode(FlakyEncoder(), "m")(posts)
    assert isinstance(first, Encoded)
    assert isinstance(second, Encoded)
    assert isinstance(third, Encoded)
    assert [point.id for point in first.points] == [
        image_point_id("a", "0"),
        image_point_id("a", "1"),
        text_point_id("a", 0),
    ]
    assert [point.payload["window"] for point in second.points] == [0, 1]
    assert [list(point.vectors) for point in third.points] == [["image"]]
    assert {point.payload["model_id"] for point in first.points} == {"m"}


class HeadEncoder(FlakyEncoder):
    """Gives pictures scalars, the second one none that is finite."""

    def encode_with_scalars(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scalars = np.array([[1.0, 0.5], [np.nan, 0.5], [2.0, 0.5]], np.float32)
        return self.encode_images(pixels), scalars[: len(pixels)]


def test_pictures_carry_the_scalars_of_the_matching_head() -> None:
    encoder = HeadEncoder()
    posts = [prepared("a", images=1), prepared("b", images=1), prepared("c", images=1, windows=("x",))]
    first, second, third = Encode(encoder, "m", head=encoder)(posts)
    assert isinstance(first, Encoded)
    assert isinstance(third, Encoded)
    assert isinstance(second, DeadLettered)  # JSON has no NaN
    assert first.points[0].payload["itm"] == [1.0, 0.5]
    assert [point.payload.get("itm") for point in third.points] == [[2.0, 0.5], None]


def test_points_tell_how_well_they_fit_what_else_their_post_shows() -> None:
    across, along, between = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    images, texts = own_cosines([across, along], [between])
    assert images == pytest.approx([0.8, 0.6])
    assert texts == pytest.approx([0.8])
    assert own_cosines([across], []) == ([None], [])


def test_a_window_about_something_else_fits_its_post_as_well_as_the_best_one() -> None:
    picture, about_it, about_another = np.array([[0, 1], [0.6, 0.8], [1, 0]], np.float32)
    images, texts = own_cosines([picture], [about_it, about_another])
    assert images == pytest.approx([0.8])
    assert texts == pytest.approx([0.8, 0.8])


def test_a_post_without_a_text_of_its_own_says_nothing_of_how_it_fits() -> None:
    (alone,) = Encode(FlakyEncoder(), "m")([prepared("a", images=1)])
    assert isinstance(alone, Encoded)
    assert "own_cosine" not in alone.points[0].payload


def test_ids_keep_alike_parts_apart() -> None:
    ids = {
        image_point_id("a", "b/c"),
        image_point_id("a/b", "c"),
        image_point_id("a", "0"),
        text_point_id("a", 0),
        match_id("a", "0", "m"),
    }
    assert len(ids) == 5


class DictStore:
    """Points in a dictionary; refuses those of a post called `refused`."""

    def __init__(self) -> None:
        self.points: dict[str, Point] = {}
        self.deleted: list[str] = []

    def upsert(self, points: Sequence[Point]) -> None:
        good = [point for point in points if point.payload["post_id"] != "refused"]
        self.points |= {point.id: point for point in good}
        if len(good) < len(points):
            raise InvalidPost(Reason.STORE_REJECTED, "no")

    def delete_post(self, post_id: str) -> None:
        self.deleted.append(post_id)
        self.points = {
            id_: point for id_, point in self.points.items() if point.payload["post_id"] != post_id
        }

    def delete_stale(self, post_ids: Sequence[str], current: Sequence[str]) -> None:
        stale = {
            id_
            for id_, point in self.points.items()
            if point.payload["post_id"] in post_ids and id_ not in current
        }
        self.deleted += sorted(stale)
        self.points = {id_: point for id_, point in self.points.items() if id_ not in stale}


def encoded(*posts: Prepared) -> list[Encoded]:
    results = Encode(FlakyEncoder(), "m")(posts)
    return [result for result in results if isinstance(result, Encoded)]


def test_post_that_comes_again_smaller_leaves_no_old_point() -> None:
    store = DictStore()
    index = Index(store, lambda _: True)
    index(encoded(prepared("p", images=3, windows=("a", "b")), prepared("q", images=1)))
    assert store.deleted == []
    index(encoded(prepared("p", windows=("a",))))
    assert set(store.points) == {text_point_id("p", 0), image_point_id("q", "0")}


def test_of_several_posts_that_come_again_smaller_each_loses_exactly_what_it_has_no_more() -> None:
    store = DictStore()
    index = Index(store, lambda _: True)
    index(encoded(*(prepared(name, images=2, windows=("a",)) for name in ("p", "q", "r"))))
    index(encoded(prepared("p", images=1, windows=("a",)), prepared("q", windows=("a",))))
    gone = {image_point_id("p", "1"), image_point_id("q", "0"), image_point_id("q", "1")}
    assert set(store.deleted) == gone
    assert len(store.points) == 9 - len(gone)


def test_post_that_comes_again_without_anything_to_index_loses_all_its_points() -> None:
    store = DictStore()
    index = Index(store, lambda _: True)
    index(encoded(prepared("p", images=2), prepared("q", images=1)))
    (outcome,) = index([Encoded(prepared("p"), ())])
    assert isinstance(outcome, Unmatched)
    assert set(store.points) == {image_point_id("q", "0")}


def test_post_that_comes_again_unchanged_deletes_nothing() -> None:
    store = DictStore()
    for _ in range(2):
        Index(store, lambda _: True)(encoded(prepared("p", images=1, windows=("a",))))
    assert store.deleted == []


def test_post_that_the_store_refuses_fails_alone_and_leaves_nothing() -> None:
    store = DictStore()
    posts = encoded(*(prepared(name, windows=("a",)) for name in ("p", "q", "refused", "r", "s")))
    results = Index(store, lambda _: True)(posts)
    assert [type(result) for result in results] == [Encoded, Encoded, DeadLettered, Encoded, Encoded]
    assert {point.payload["post_id"] for point in store.points.values()} == {"p", "q", "r", "s"}


def test_post_whose_partition_was_taken_away_is_dropped_and_changes_nothing() -> None:
    store = DictStore()
    gone = record(0, "p", epoch=1)
    index = Index(store, lambda item: item is not gone)
    posts = encoded(prepared("p", windows=("a",), source_record=gone), prepared("q", windows=("b",)))
    results = index([*posts, TakeDown(gone, "q")])
    assert [type(result) for result in results] == [Dropped, Encoded, Dropped]
    assert set(store.points) == {text_point_id("q", 0)}


def test_take_down_deletes_the_posts_points_only() -> None:
    store = DictStore()
    index = Index(store, lambda _: True)
    index(encoded(prepared("p", images=1), prepared("q", images=1)))
    (outcome,) = index([TakeDown(record(3, "p"), "p")])
    assert outcome == Unmatched(record(3, "p"), "p", 0, taken_down=True)
    assert set(store.points) == {image_point_id("q", "0")}


def match(match_id_: str) -> Match:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return Match(
        match_id_,
        "t",
        "i",
        "0",
        0,
        False,
        Direction.TEXT_TO_IMAGE,
        0.9,
        0.8,
        1,
        "",
        "",
        (),
        "m",
        now,
        None,
        None,
        "",
    )


def matched(offset: int, *ids: str) -> Matched:
    return Matched(record(offset), f"post{offset}", tuple(match(id_) for id_ in ids), 1)


def match_ids(outcomes: Sequence[Outcome]) -> list[list[str]]:
    return [[found.match_id for found in item.matches] for item in outcomes if isinstance(item, Matched)]


def emitter(matches: MemorySink, letters: MemorySink, outcomes: MemorySink | None = None) -> Emit:
    return Emit(matches, letters, outcomes, times=StageTimes(), metrics=Metrics())


def test_pair_found_from_both_sides_is_written_once() -> None:
    matches = MemorySink()
    emit = emitter(matches, MemorySink())
    first = emit([matched(0, "a", "b"), matched(1, "b", "c")])
    second = emit([matched(2, "c")])
    assert match_ids(first) == [["a", "b"], ["c"]]
    assert match_ids(second) == [[]]  # matched all the same, and nothing new to write
    assert [message.key for message in matches.messages] == [b"a", b"b", b"c"]


def test_matches_of_posts_out_of_context_are_counted() -> None:
    metrics = Metrics()
    flagged = replace(match("a"), out_of_context=("i",))
    metrics.count(Matched(record(0), "post0", (flagged, match("b")), 1))
    assert metrics.registry.get_sample_value("entityclip_out_of_context_total") == 1


def test_every_outcome_is_written_to_the_sink_of_its_kind() -> None:
    matches, letters, outcomes = MemorySink(), MemorySink(), MemorySink()
    refused = DeadLettered(record(2), Reason.INVALID_JSON, "no", "decode")
    emitter(matches, letters, outcomes)([matched(0, "a"), Unmatched(record(1), "post1", 1), refused])
    assert len(matches.messages) == len(letters.messages) == 1
    assert letters.messages[0].value == record(2).value
    kinds = [msgspec.json.decode(message.value)["outcome"] for message in outcomes.messages]
    assert kinds == ["matched", "unmatched", "dead_lettered"]


def test_repeated_batch_does_not_take_its_first_try_for_an_earlier_run() -> None:
    matches, letters = MemorySink(), MemorySink(failures=1)
    emit = emitter(matches, letters)
    batch: list[Outcome] = [matched(0, "a"), DeadLettered(record(2), Reason.INVALID_JSON, "no", "decode")]
    with pytest.raises(TransientError):
        emit(batch)
    assert match_ids(emit(batch)) == [["a"]]


def test_a_sink_that_acknowledged_is_not_written_again_when_another_one_fails() -> None:
    matches, letters = MemorySink(), MemorySink(failures=2)
    emit = emitter(matches, letters)
    batch: list[Outcome] = [matched(0, "a"), DeadLettered(record(2), Reason.INVALID_JSON, "no", "decode")]
    for _ in range(2):
        with pytest.raises(TransientError):
            emit(batch)
    emit(batch)
    assert [message.key for message in matches.messages] == [b"a"]
    assert len(letters.messages) == 1


def test_without_a_sink_no_match_counts_as_written() -> None:
    outcomes = MemorySink()
    emit = Emit(None, MemorySink(), outcomes, times=StageTimes(), metrics=Metrics())
    assert match_ids(emit([matched(0, "a", "b")])) == [[]]
    (told,) = [msgspec.json.decode(message.value) for message in outcomes.messages]
    assert (told["outcome"], told["matches"]) == ("matched", 0)


@pytest.mark.parametrize("part", ["headers", "explanation", "entities"])
def test_a_match_that_its_topic_would_refuse_goes_out_without_what_is_too_large(part: str) -> None:
    """Were it refused, this one post would end every worker that reads it."""
    large = "x" * 5000
    found = replace(match("a"), explanation="it", entities=("E",), text="The text.")
    post = record(0)
    if part == "headers":
        post = replace(post, headers=(("trace", large.encode()),))
    elif part == "explanation":
        found = replace(found, explanation=large)
    else:
        found = replace(found, entities=(large,))
    matches = MemorySink()
    limits = SizeLimits(matches=2000)
    emit = Emit(matches, MemorySink(), times=StageTimes(), metrics=Metrics(), limits=limits)
    emit([Matched(post, "post0", (found,), 1)])
    (written,) = matches.messages
    assert message_bytes(written) <= 2000
    told = decode_match(written.value)
    assert (told.match_id, told.text) == ("a", "The text.")
    assert (told.explanation == "it") == (part == "headers")


def test_an_outcome_that_its_topic_would_refuse_goes_out_without_the_posts_headers() -> None:
    outcomes = MemorySink()
    limits = SizeLimits(outcomes=2000)
    emit = Emit(None, MemorySink(), outcomes, times=StageTimes(), metrics=Metrics(), limits=limits)
    large, small = (("trace", b"x" * 5000),), (("trace", b"x"),)
    emit([Unmatched(replace(record(n), headers=own), "p", 1) for n, own in enumerate((large, small))])
    assert [message.headers for message in outcomes.messages] == [(), small]
