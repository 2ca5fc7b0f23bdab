"""Matching: thresholds, windows, ranks, dates and ids, against a store made of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.calibration import Calibration, PairParts
from model.config import MatchingConfig
from tests.fakes import prepared
from worker.index import Hit, Point, Search
from worker.matching import Matcher, MatchRules, entities_of
from worker.stages.points import post_points
from worker.types import Direction, Encoded

LINEAR = Calibration.of(
    MatchingConfig(intercept=-10.0, weights={"cosine": 20.0}, threshold=0.5)
)  # a match from a cosine of 0.5 on
MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


class ListStore:
    """Searches by brute force, with the filters that matching uses."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.asked: list[Search] = []

    def add(self, *posts: Encoded) -> None:
        self.points += [point for post in posts for point in post.points]

    def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        self.asked += requests
        return [self._one(request) for request in requests]

    def get(
        self, ids: Sequence[str], *, with_vectors: bool = False, fields: Sequence[str] | None = None
    ) -> list[Point]:
        return [point for point in self.points if point.id in ids]

    def _one(self, request: Search) -> list[Hit]:
        hits = [
            Hit(point.id, float(request.vector @ point.vectors[request.using]), _some(point, request))
            for point in self.points
            if request.using in point.vectors and self._passes(request, point)
        ]
        least = -1.0 if request.score_threshold is None else request.score_threshold
        hits = sorted((hit for hit in hits if hit.score >= least), key=lambda hit: -hit.score)
        return hits[: request.limit]

    def _passes(self, request: Search, point: Point) -> bool:
        where, date = request.where, point.payload["published_at"]
        if point.payload["post_id"] == where.exclude_post:
            return False
        if where.langs and point.payload["lang"] not in where.langs:
            return False
        if where.entities and not set(where.entities) & set(entities_of(point.payload)):
            return False
        if where.undated:
            return date is None
        if where.published_from is None or where.published_to is None:
            return True
        return isinstance(date, datetime) and where.published_from <= date <= where.published_to


def _some(point: Point, request: Search) -> dict[str, object]:
    return {
        name: value
        for name, value in point.payload.items()
        if request.fields is None or name in request.fields
    }


def angle(cosine: float) -> np.ndarray:
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


def text_post(post_id: str, *cosines: float, at: datetime | None = None) -> Encoded:
    post = prepared(post_id, windows=tuple(f"{post_id} {n}" for n in range(len(cosines))), published_at=at)
    return Encoded(post, post_points(post, [], [angle(cosine) for cosine in cosines], "m"))


def image_post(post_id: str, *cosines: float, at: datetime | None = None) -> Encoded:
    post = prepared(post_id, images=len(cosines), published_at=at)
    return Encoded(post, post_points(post, [angle(cosine) for cosine in cosines], [], "m"))


def matcher(store: ListStore, **rules: object) -> Matcher:
    return Matcher(store.search, MatchRules(LINEAR, "m", **rules), now=lambda: MORNING)  # type: ignore[arg-type]


def test_text_finds_images_above_the_threshold_best_first() -> None:
    store, text = ListStore(), text_post("t", 1.0)
    store.add(image_post("a", 0.6), image_post("b", 0.9), image_post("c", 0.3), text)
    (matches,) = matcher(store).match([text])
    assert [(match.image_post_id, match.rank) for match in matches] == [("b", 1), ("a", 2)]
    assert {match.direction for match in matches} == {Direction.TEXT_TO_IMAGE}
    assert matches[0].score == pytest.approx(1 / (1 + np.exp(-(20 * 0.9 - 10))))
    assert (matches[0].text_post_id, matches[0].text, matches[0].image_id) == ("t", "t 0", "0")


def test_pair_has_one_id_whichever_side_asks() -> None:
    store, text, image = ListStore(), text_post("t", 1.0), image_post("i", 0.9)
    store.add(text, image)
    from_text, from_image = matcher(store).match([text, image])
    assert from_text[0].match_id == from_image[0].match_id
    assert from_image[0].direction is Direction.IMAGE_TO_TEXT
    assert (from_image[0].text_post_id, from_image[0].image_post_id) == ("t", "i")


@pytest.mark.parametrize("missing", ["post_id", "image_id", "content_hash"])
def test_a_stored_point_that_is_not_whole_is_passed_over(missing: str) -> None:
    store, text = ListStore(), text_post("t", 1.0)
    store.add(image_post("foreign", 0.9), image_post("ours", 0.8), text)
    foreign = store.points[0]
    payload = {name: value for name, value in foreign.payload.items() if name != missing}
    store.points[0] = replace(foreign, payload={"post_id": "foreign"} | payload)
    if missing == "post_id":
        store.points[0] = replace(foreign, payload=payload | {"post_id": None})
    (matches,) = matcher(store).match([text])
    assert [match.image_post_id for match in matches] == ["ours"]


@pytest.mark.parametrize(("field", "value"), [("window", None), ("window", "x"), ("published_at", "today")])
def test_a_stored_text_with_a_field_of_another_kind_is_passed_over(field: str, value: object) -> None:
    store, image = ListStore(), image_post("i", 1.0)
    store.add(text_post("foreign", 0.9), text_post("ours", 0.8), image)
    store.points[0] = replace(store.points[0], payload={**store.points[0].payload, field: value})
    (matches,) = matcher(store).match([image])
    assert [match.text_post_id for match in matches] == ["ours"]


def test_own_post_is_left_out_unless_asked_for() -> None:
    post = prepared("p", images=1, windows=("words",))
    both = Encoded(post, post_points(post, [angle(1.0)], [angle(1.0)], "m"))
    store = ListStore()
    store.add(both)
    assert matcher(store).match([both]) == [()]
    (matches,) = matcher(store, same_post=True).match([both])
    assert [match.same_post for match in matches] == [True]  # once, though both of its points ask


def test_best_window_of_a_text_stands_for_the_pair() -> None:
    store, text, image = ListStore(), text_post("t", 0.6, 1.0, 0.7), image_post("i", 1.0)
    store.add(text, image)
    from_text, from_image = matcher(store).match([text, image])
    assert [match.window for match in from_text] == [1]
    assert [match.window for match in from_image] == [1]


def test_no_more_than_max_matches_and_the_best_ones() -> None:
    store, text = ListStore(), text_post("t", 1.0)
    store.add(*(image_post(f"i{n}", 0.6 + n / 100) for n in range(30)))
    (matches,) = matcher(store, max_matches=3, top_k=30).match([text])
    assert [match.image_post_id for match in matches] == ["i29", "i28", "i27"]


def test_copies_of_one_picture_do_not_crowd_out_others() -> None:
    store, text = ListStore(), text_post("t", 1.0)
    copies = [prepared(f"copy{n}", images=1) for n in range(30)]
    for post in copies:
        (point,) = post_points(post, [angle(0.95)], [], "m")
        store.points.append(Point(point.id, point.vectors, {**point.payload, "content_hash": "same"}))
    store.add(image_post("other", 0.7))
    (matches,) = matcher(store, max_matches=4, top_k=5).match([text])
    assert sorted({match.image_hash for match in matches}) == ["other-0", "same"]
    assert len(matches) == 4
    assert {match.image_post_id: match.rank for match in matches}["other"] == 2


@pytest.mark.parametrize("days", [2, 4])
def test_date_window_says_the_same_from_both_sides(days: int) -> None:
    store = ListStore()
    text = text_post("t", 1.0, at=MORNING)
    image = image_post("i", 1.0, at=MORNING + timedelta(days=3))
    store.add(text, image)
    from_text, from_image = matcher(store, window=timedelta(days=days)).match([text, image])
    assert len(from_text) == len(from_image) == (days > 3)


def test_with_a_date_window_undated_posts_match_only_each_other() -> None:
    store = ListStore()
    dated, undated = text_post("dated", 1.0, at=MORNING), text_post("undated", 1.0)
    images = image_post("i", 1.0, at=MORNING), image_post("j", 1.0)
    store.add(dated, undated, *images)
    found = matcher(store, window=timedelta(days=1)).match([dated, undated, *images])
    pairs = [{(match.text_post_id, match.image_post_id) for match in matches} for matches in found]
    assert pairs == [{("dated", "i")}, {("undated", "j")}, {("dated", "i")}, {("undated", "j")}]


def test_dated_posts_do_not_crowd_out_the_undated_partner_of_an_undated_one() -> None:
    store = ListStore()
    text, image = text_post("t", 1.0), image_post("i", 0.9)
    store.add(text, image, *(image_post(f"dated{n}", 1.0, at=MORNING) for n in range(9)))
    (matches,) = matcher(store, window=timedelta(days=1), top_k=5).match([text])
    assert [match.image_post_id for match in matches] == ["i"]


def test_hits_do_not_bring_along_what_posts_have_in_unknown_fields() -> None:
    store = ListStore()
    store.add(image_post("i", 1.0))
    matcher(store).match([text_post("t", 1.0)])
    assert [search.fields is not None and "extra" not in search.fields for search in store.asked] == [True]


def test_date_at_the_end_of_time_is_no_error() -> None:
    store = ListStore()
    last = text_post("t", 1.0, at=datetime.max.replace(tzinfo=UTC))
    store.add(image_post("i", 1.0, at=MORNING))
    assert matcher(store, window=timedelta(days=1)).match([last]) == [()]


def test_post_without_points_asks_nothing() -> None:
    store = ListStore()
    assert matcher(store).match([Encoded(prepared("p"), ())]) == [()]
    assert store.asked == []


@given(
    cosine=st.floats(-1, 1),
    slope=st.floats(-1000, 1000),
    intercept=st.floats(-1000, 1000),
    threshold=st.floats(0, 1),
)
def test_search_bound_never_hides_a_match(
    cosine: float, slope: float, intercept: float, threshold: float
) -> None:
    fitted = MatchingConfig(intercept=intercept, weights={"cosine": slope}, threshold=threshold)
    calibration = Calibration.of(fitted)
    score, least = calibration.score(PairParts(cosine)), calibration.least_cosine()
    assert 0 <= score <= 1
    if score >= threshold and least is not None and slope > 1e-3:
        assert cosine >= least - 1e-4


def both_post(post_id: str, own: float, *, foreign: float) -> Encoded:
    """A post whose text and picture have the cosine `own`; its picture has `foreign` to `angle(1.0)`."""
    post = prepared(post_id, images=1, windows=(f"{post_id} text",))
    turn = np.arccos(foreign)
    picture, text = (np.array([np.cos(a), np.sin(a)], np.float32) for a in (turn, turn + np.arccos(own)))
    return Encoded(post, post_points(post, [picture], [text], "m"))


@pytest.mark.parametrize(("own", "flagged"), [(0.1, ("both",)), (0.9, ())])
def test_a_post_whose_own_pair_does_not_belong_together_is_out_of_context(
    own: float, flagged: tuple[str, ...]
) -> None:
    store, text = ListStore(), text_post("t", 1.0)
    store.add(text, both_post("both", own, foreign=0.95))
    (matches,) = matcher(store).match([text])
    found = matches[0]
    assert found.image_own_score == pytest.approx(LINEAR.own_score(own), abs=1e-5)
    assert found.text_own_score is None
    assert found.out_of_context == flagged


def test_a_posts_match_with_itself_is_never_out_of_context() -> None:
    store, post = ListStore(), both_post("both", 0.6, foreign=1.0)
    store.add(post)
    (matches,) = matcher(store, same_post=True, own_below=1.0).match([post])
    assert [match.out_of_context for match in matches] == [()]


@pytest.mark.parametrize(
    ("rule", "own", "partners"),
    [
        ("same_lang", {"lang": "en"}, ["same"]),
        ("same_lang", {}, []),
        ("share_entity", {"entities": ("A", "B")}, ["same"]),
        ("share_entity", {"entities": ()}, []),
    ],
)
def test_only_posts_of_one_language_or_entity_match_where_that_is_asked(
    rule: str, own: dict[str, object], partners: list[str]
) -> None:
    def with_fields(post: Encoded, **fields: object) -> Encoded:
        changed = replace(post.prepared, post=replace(post.prepared.post, **fields))  # type: ignore[arg-type]
        points = [Point(p.id, p.vectors, {**p.payload, **fields}) for p in post.points]
        return Encoded(changed, tuple(points))

    store, text = ListStore(), with_fields(text_post("t", 1.0), **own)
    store.add(
        with_fields(image_post("same", 0.9), lang="en", entities=("B",)),
        with_fields(image_post("other", 0.9), lang="fr", entities=("C",)),
        with_fields(image_post("none", 0.9), lang=None, entities=()),
        text,
    )
    found = matcher(store, **{rule: True}).match([text])[0]
    assert [match.image_post_id for match in found] == partners
