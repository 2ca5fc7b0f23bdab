"""How far a pair is ahead of its rivals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.calibration import Calibration
from model.config import MatchingConfig
from tests.fakes import prepared
from tests.unit.test_matching import ListStore
from worker.index import Hit, Point, Search
from worker.matching import Matcher, MatchRules, PairEvidence
from worker.matching.rivals import Rival, margin, nearest_rival
from worker.stages.points import post_points
from worker.types import Encoded

AHEAD = MatchingConfig(intercept=-1.0, weights={"cosine": 1.0, "margin": 20.0}, threshold=0.5)
TEXT = Point("t", {}, {"post_id": "t", "content_hash": "words"})
IMAGE = Point("i", {}, {"post_id": "i", "content_hash": "pixels"})


def hit(name: str, cosine: float, **payload: object) -> Hit:
    return Hit(name, cosine, {"post_id": name, "content_hash": f"of {name}"} | payload)


def post(name: str, *, text: list[float] | None = None, image: list[float] | None = None) -> Encoded:
    """A post of one text or one picture, that names no entity."""
    made = prepared(name, images=int(image is not None), windows=() if text is None else (name,))
    made = replace(made, post=replace(made.post, entities=()))
    rows = [[] if row is None else [_unit(row)] for row in (image, text)]
    return Encoded(made, post_points(made, rows[0], rows[1], "m"))


def _unit(row: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vector = np.array(row, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def matcher(store: ListStore, fitted: MatchingConfig = AHEAD) -> Matcher:
    rules = MatchRules(Calibration.of(fitted), "m")
    return Matcher(store.search, rules, evidence=PairEvidence(rules, store.get, None, search=store.search))


def test_the_best_other_hit_is_the_rival() -> None:
    hits = [hit("i", 0.9, content_hash="pixels"), hit("other", 0.7), hit("worse", 0.2)]
    assert nearest_rival(TEXT, IMAGE, hits, 20) == Rival(0.7)


@pytest.mark.parametrize(
    "payload", [{"content_hash": "pixels"}, {"post_id": "i"}, {"entities": ["Saint  lucia"]}]
)
def test_a_copy_the_same_post_and_a_shared_entity_are_no_rivals(payload: dict[str, object]) -> None:
    named = Point("t", {}, {**TEXT.payload, "entities": ["Saint Lucia"]})
    assert nearest_rival(named, IMAGE, [hit("other", 0.7, **payload)], 20) == Rival(None)


def test_behind_a_full_list_of_copies_the_rival_is_taken_to_be_just_behind() -> None:
    copies = [hit(str(number), 0.9 - number / 100, content_hash="pixels") for number in range(5)]
    assert nearest_rival(TEXT, IMAGE, copies, 5) == Rival(copies[-1].score)


def test_the_margin_is_to_the_nearest_of_the_rivals() -> None:
    assert margin(0.9, [Rival(0.5), Rival(None), Rival(0.7)]) == pytest.approx(0.2)
    assert margin(0.9, [Rival(None)]) is None


def test_both_sides_find_the_same_margin_and_score() -> None:
    store = ListStore()
    posts = [
        post("text", text=[1, 0, 0]),
        post("image", image=[0.9, 0.1, 0]),
        post("rival text", text=[0.8, 0.6, 0]),
        post("rival image", image=[0, 0.6, 0.8]),
    ]
    store.add(*posts)
    by_text, by_image = (matcher(store).match([each])[0] for each in posts[:2])
    ours = [match for match in (*by_text, *by_image) if match.text_post_id == "text"]
    assert len(ours) == 2
    assert ours[0].score == pytest.approx(ours[1].score)
    expected = ours[0].cosine - float(_unit([0.8, 0.6, 0]) @ _unit([0.9, 0.1, 0]))
    assert ours[0].margin == pytest.approx(expected, abs=1e-6)


def test_a_pair_that_its_own_search_rules_out_asks_for_no_more_rivals() -> None:
    store = ListStore()
    store.add(post("a", image=[1, 0.1, 0]), post("b", image=[1, 0, 0.1]))
    asking = post("text", text=[1, 0, 0])
    store.add(asking)
    assert matcher(store).match([asking]) == [()]
    assert len(store.asked) == 1


def test_rivals_that_no_threshold_hides_are_asked_for() -> None:
    asked: list[Search] = []

    def search(requests: list[Search]) -> list[list[Hit]]:
        asked.extend(requests)
        return [[] for _ in requests]

    rules = MatchRules(Calibration.of(AHEAD), "m")
    Matcher(search, rules).match([post("text", text=[1, 0, 0])])  # type: ignore[arg-type]
    assert [request.score_threshold for request in asked] == [None]
