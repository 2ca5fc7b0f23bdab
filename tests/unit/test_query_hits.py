"""Candidates and scores of a query, against an index made of a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest

from model.calibration import Calibration
from model.config import MatchingConfig
from worker.index import Hit, Point, Search, VectorIndex, Where
from worker.query.candidates import Asked, Vector
from worker.query.hits import Found, Scale, find
from worker.query.question import Kind, Query

LINEAR = MatchingConfig(intercept=-10.0, weights={"cosine": 20.0}, threshold=0.5)
X, Y, Z = np.eye(3, dtype=np.float32)


class ListIndex:
    """Searches by brute force; knows the kind and the content of a point, no other condition."""

    def __init__(self, *points: Point) -> None:
        self.points, self.asked = points, list[Search]()

    def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        self.asked += requests
        return [self._one(request) for request in requests]

    def get(
        self, ids: Sequence[str], *, with_vectors: bool = False, fields: Sequence[str] | None = None
    ) -> list[Point]:
        assert with_vectors
        return [point for point in self.points if point.id in ids]

    def facet(self, key: str, *, limit: int, where: Where) -> Mapping[str, int]:
        values = [str(point.payload[key]) for point in self.points if point.payload["kind"] in where.kinds]
        return dict(Counter(value for value in values if value in where.content_hashes).most_common(limit))

    def _one(self, request: Search) -> list[Hit]:
        hits = [
            Hit(point.id, float(request.vector @ point.vectors[request.using]), point.payload)
            for point in self.points
            if request.using in point.vectors
        ]
        return sorted(hits, key=lambda hit: -hit.score)[: request.limit]


def unit(*numbers: float) -> Vector:
    vector = np.array(numbers, np.float32)
    return cast(Vector, vector / np.linalg.norm(vector))


def image(id_: str, vector: Vector, content: str = "", **fields: object) -> Point:
    payload = {"post_id": id_, "kind": "image", "image_id": "0", "content_hash": content or id_}
    return Point(id_, {"image": vector}, payload | fields)


def text(id_: str, vector: Vector, post: str = "", **fields: object) -> Point:
    payload = {"post_id": post or id_, "kind": "text", "content_hash": id_}
    return Point(id_, {"text": vector}, payload | fields)


def asked(
    index: ListIndex,
    kinds: tuple[Kind, ...] = ("image",),
    top: int = 10,
    fitted: MatchingConfig = LINEAR,
    explanation: Vector | None = None,
    encoded: Vector | None = None,
    **sides: Vector,
) -> tuple[Found, ...]:
    query = Query(
        text="a text" if "text" in sides else "",
        image="a picture" if "image" in sides else None,
        kinds=kinds,
        top=top,
    )
    scale = Scale(
        Calibration.of(fitted),
        lambda texts: np.stack([encoded if encoded is not None else X for _ in texts]),
    )
    question = Asked(cast(Mapping[Kind, Vector], sides), explanation)
    return find(query, question, cast(VectorIndex, index), scale)


def names(found: Sequence[Found]) -> list[str]:
    return [hit.post_id for hit in found]


def test_a_content_stands_once_with_the_number_of_its_copies() -> None:
    index = ListIndex(image("a", unit(9, 1, 0), "same"), image("b", X, "same"), image("c", unit(5, 1, 0)))
    found = asked(index, text=X)
    assert [(hit.post_id, hit.copies) for hit in found] == [("b", 1), ("c", 0)]


def test_a_crowded_list_is_asked_for_more_widely() -> None:
    copies = [image(f"copy-{n}", X, "same") for n in range(6)]
    found = asked(ListIndex(*copies, image("other", unit(1, 1, 0))), top=2, text=X)
    assert [(hit.post_id, hit.copies) for hit in found] == [("copy-0", 5), ("other", 0)]


def test_a_list_that_is_not_crowded_is_asked_for_once() -> None:
    index = ListIndex(*(image(f"i{n}", X) for n in range(6)))
    asked(index, top=2, text=X)
    assert [search.limit for search in index.asked] == [2]


def test_of_a_text_its_best_window_stands() -> None:
    index = ListIndex(text("w0", unit(1, 1, 0), "post"), text("w1", X, "post"), text("other", Y))
    found = asked(index, ("text",), image=X)
    assert [(hit.post_id, hit.content_hash) for hit in found] == [("post", "w1"), ("other", "other")]


def one_sided(count: int) -> list[Point]:
    """So many pictures that only a text X finds, and as many that only a picture Y finds."""
    xs = [image(f"x{n}", unit(1, 0, n / 9)) for n in range(count)]
    return [*xs, *(image(f"y{n}", unit(0.1, 1, n / 9)) for n in range(count))]


def test_what_both_sides_find_comes_before_what_one_finds_first() -> None:
    index = ListIndex(*one_sided(4), image("both", unit(1, 1, 0)))
    assert names(asked(index, top=1, text=X, image=Y)) == ["both"]


def test_the_larger_spread_within_a_kind_does_not_outvote_the_other_side() -> None:
    # the sum of the cosines is larger for "b", by the picture's alone; their ranks are even
    index = ListIndex(image("a", unit(0.32, 0.7, 0.6)), image("b", unit(0.30, 0.9, 0.3)))
    assert names(asked(index, text=X, image=Y)) == ["a", "b"]


def test_a_hit_of_one_side_alone_has_the_cosine_of_the_other_side_too() -> None:
    found = asked(ListIndex(*one_sided(10)), top=2, text=X, image=Y)
    cosines = {hit.post_id: (hit.cosine, hit.likeness) for hit in found}
    long = np.hypot(0.1, 1)
    assert cosines["y0"] == pytest.approx((0.1 / long, 1 / long))
    assert cosines["x0"] == pytest.approx((1.0, 0.0))


def test_hits_of_one_side_are_ordered_by_their_score() -> None:
    both = MatchingConfig(intercept=0.0, weights={"cosine": 1.0, "explanation_similarity": 5.0})
    index = ListIndex(image("named", unit(5, 1, 0)), image("described", unit(4, 3, 0)))
    found = asked(index, fitted=both, explanation=Y, text=X)
    assert names(found) == ["described", "named"]
    assert found[0].parts[1].value == pytest.approx(0.6)


def test_a_stored_explanation_is_compared_with_the_picture_asked_with() -> None:
    both = MatchingConfig(intercept=0.0, weights={"cosine": 1.0, "explanation_similarity": 5.0})
    index = ListIndex(text("told", X, explanation="blue"), text("silent", X, explanation=""))
    found = asked(index, ("text",), fitted=both, encoded=unit(3, 4, 0), image=X)
    values = {hit.post_id: hit.parts[1].value for hit in found}
    assert values == {"told": pytest.approx(0.6), "silent": None}


def test_contributions_are_the_linear_score() -> None:
    (hit,) = asked(ListIndex(image("i", unit(3, 4, 0))), text=X)
    assert [part.name for part in hit.parts] == ["cosine"]
    assert hit.parts[0].contribution == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("vector", "own_cosine", "flagged"),
    [(X, -0.5, True), (X, 0.9, False), (Y, -0.5, False), (X, None, False)],
    ids=["foreign match", "belongs", "no match", "one kind alone"],
)
def test_out_of_context_needs_a_match_and_an_own_pair_that_is_none(
    vector: Vector, own_cosine: float | None, flagged: bool
) -> None:
    (hit,) = asked(ListIndex(image("i", vector, own_cosine=own_cosine)), text=X)
    assert hit.out_of_context is flagged


def test_hits_of_the_query_s_own_kind_have_no_score() -> None:
    (hit,) = asked(ListIndex(image("i", X, own_cosine=-1.0)), image=X)
    assert (hit.score, hit.likeness, hit.parts, hit.out_of_context) == (None, None, (), False)
    assert hit.cosine == pytest.approx(1.0)
