"""A pair has one margin and one score, whichever of its posts is matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.calibration import Calibration
from model.config import MatchingConfig
from tests.fakes import prepared
from tests.unit.test_pair_evidence import Points
from worker.index import Hit, Point, Search
from worker.matching import Candidate, Matcher, MatchRules, PairEvidence
from worker.stages.points import post_points
from worker.types import Encoded

AHEAD = MatchingConfig(intercept=-5.0, weights={"cosine": 1.0, "margin": 20.0}, threshold=0.5)


def unit(*row: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vector = np.array(row, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def picture(name: str, *row: float, content: str = "") -> Encoded:
    post = prepared(name, images=1)
    post = replace(post, post=replace(post.post, entities=()))
    post = replace(post, images=(replace(post.images[0], content_hash=content or name),))
    return Encoded(post, post_points(post, [unit(*row)], [], "m"))


def words(name: str, *row: float) -> Encoded:
    post = prepared(name, windows=(name,))
    post = replace(post, post=replace(post.post, entities=()))
    return Encoded(post, post_points(post, [], [unit(*row)], "m"))


def margins(posts: Sequence[Encoded], asking: Encoded, **rules: int) -> dict[tuple[str, str], float | None]:
    """Of the pairs that a post's matches are, with all posts in the store."""
    store, own = Points(), MatchRules(Calibration.of(AHEAD), "m", **rules)  # type: ignore[arg-type]
    store.add(*posts)
    evidence = PairEvidence(own, store.get, None, search=store.search)
    (found,) = Matcher(store.search, own, evidence=evidence).match([asking])
    return {(match.text_post_id, match.image_post_id): match.margin for match in found}


def test_copies_that_crowd_a_search_do_not_hide_the_rival_from_either_side() -> None:
    copies = [picture(f"copy{n}", 1, 0.1 + n / 1000, 0, content="same") for n in range(6)]
    text = words("text", 1, 0, 0)
    posts = [text, *copies, picture("other", 0.2, 0, 1)]
    by_text = margins(posts, text, top_k=3, max_matches=2)
    by_image = margins(posts, copies[0], top_k=3, max_matches=2)
    assert by_image["text", "copy0"] == pytest.approx(by_text["text", "copy0"])


def test_a_rival_on_the_far_side_alone_is_found_from_both_sides() -> None:
    text, image = words("text", 1, 0, 0), picture("image", 0.9, 0.1, 0)
    posts = [text, image, words("other", 0, 1, 0)]
    by_text, by_image = margins(posts, text), margins(posts, image)
    assert by_image["text", "image"] == pytest.approx(by_text["text", "image"])


def test_a_pair_that_the_rules_forbid_has_no_rivals_there() -> None:
    def search(requests: Sequence[Search]) -> list[list[Hit]]:
        return [[] for _ in requests]

    rules = MatchRules(Calibration.of(AHEAD), "m", same_lang=True)
    evidence = PairEvidence(rules, lambda ids, with_vectors: [], None, search=search)
    ours = Point("t", {"text": unit(1, 0)}, {"post_id": "t", "lang": "en"})
    foreign = Point("i", {"image": unit(1, 0)}, {"post_id": "i", "lang": None})
    (parts,) = evidence([Candidate(ours, foreign, 1.0)])
    assert parts.margin is None
