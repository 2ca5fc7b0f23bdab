"""The parts of a pair's score: asked for only where they can matter, and the same from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.calibration import Calibration
from model.config import MatchingConfig
from model.matching_head import MatchingHead
from tests.fakes import IMAGE_SIDE, prepared
from tests.unit.test_matching import ListStore
from tests.unit.test_matching_head import build
from worker.errors import FatalError
from worker.index import Point
from worker.matching import Candidate, Matcher, MatchRules, PairEvidence
from worker.shared_model import SharedModel
from worker.stages.encode import Encode
from worker.types import Encoded, Explanation

PLAIN = MatchingConfig(intercept=-10.0, weights={"cosine": 20.0}, threshold=0.5)
FULL = MatchingConfig(
    intercept=0.0,
    weights={"cosine": 1.0, "explanation_similarity": 1.0, "entity_overlap": 1.0, "itm": 0.1},
    threshold=0.0,
)


class Points(ListStore):
    """A list that also gives points by id, and counts how often it is asked."""

    gets = 0

    def get(
        self, ids: Sequence[str], *, with_vectors: bool = False, fields: Sequence[str] | None = None
    ) -> list[Point]:
        self.gets += 1
        return [point for point in self.points if point.id in ids and with_vectors]


class CountingModel:
    """Every text along the first axis; logits that count the pairs."""

    scalars = 2

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.pairs = 0

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return np.array([[1.0, 0.0]] * len(texts), np.float32)

    def logits(
        self,
        texts: Sequence[tuple[str, str]],
        images: np.ndarray,
        scalars: np.ndarray,
        pairs: Sequence[tuple[int, int]],
    ) -> np.ndarray:
        self.pairs += len(pairs)
        places = [image for _, image in pairs]
        return np.asarray(scalars[places, 0] * images[places, 0])


def picture(id_: str, cosine: float, **payload: object) -> Point:
    vector = np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)
    return Point(id_, {"image": vector}, {"post_id": id_, "entities": []} | payload)


def words(explanation: str = "", **payload: object) -> Point:
    fields = {"post_id": "t", "text": "t", "explanation": explanation, "entities": []}
    return Point("t", {"text": np.array([1, 0], np.float32)}, fields | payload)


def rules(fitted: MatchingConfig, *, rerank: bool = False) -> MatchRules:
    return MatchRules(Calibration.of(fitted), "m", rerank=rerank)


def test_what_the_calibration_does_not_need_is_not_asked_for() -> None:
    store, model = Points(), CountingModel()
    evidence = PairEvidence(rules(PLAIN), store.get, model)
    (parts,) = evidence([Candidate(words("red"), picture("i", 0.9, itm=[1.0, 1.0]), 0.9)])
    assert (parts.explanation_similarity, parts.itm) == (None, None)
    assert (store.gets, model.texts, model.pairs) == (0, [], 0)


def test_a_pair_that_cannot_become_a_match_costs_nothing() -> None:
    store, model = Points(), CountingModel()
    evidence = PairEvidence(rules(PLAIN, rerank=True), store.get, model)
    found = evidence(
        [
            Candidate(words(), picture(name, cosine, itm=[2.0, 1.0]), cosine)
            for name, cosine in (("a", 0.9), ("b", 0.1))
        ]
    )
    assert model.pairs == 1
    assert found[0].itm == pytest.approx(1.8)
    assert found[1].itm is None


def test_vectors_of_found_pictures_are_fetched_once_a_batch() -> None:
    store, model = Points(), CountingModel()
    store.points = [picture("a", 0.5), picture("b", 0.25)]
    evidence = PairEvidence(rules(FULL), store.get, model)
    hits = [replace(point, vectors={}) for point in store.points]
    found = evidence([Candidate(words("red"), hit, 0.0) for hit in hits])
    assert [parts.explanation_similarity for parts in found] == pytest.approx([0.5, 0.25])
    assert store.gets == 1


def test_an_explanation_that_comes_again_is_not_encoded_again() -> None:
    model = CountingModel()
    evidence = PairEvidence(rules(FULL), Points().get, model)
    for _ in range(2):
        evidence([Candidate(words("red"), picture(name, 0.5), 0.5) for name in "ab"])
    assert model.texts == ["red"]


@pytest.mark.parametrize("itm", [None, [1.0], [1.0, None], "12"])
def test_a_picture_without_usable_scalars_has_no_logit(itm: object) -> None:
    evidence = PairEvidence(rules(FULL), Points().get, CountingModel())
    (parts,) = evidence([Candidate(words(), picture("i", 0.5, itm=itm), 0.5)])
    assert parts.itm is None


def test_a_picture_that_is_deleted_meanwhile_has_no_costly_part() -> None:
    evidence = PairEvidence(rules(FULL), Points().get, CountingModel())
    (parts,) = evidence([Candidate(words("red"), replace(picture("i", 0.5), vectors={}), 0.5)])
    assert (parts.cosine, parts.explanation_similarity, parts.itm) == (0.5, None, None)


# -- with a real model ------------------------------------------------------------------------------


def served(reads_explanations: bool) -> SharedModel:
    from model.serving.encoder import Encoder

    model = build()
    encoder = Encoder(model, reads_explanations=reads_explanations)
    return SharedModel(encoder, MatchingHead(model, encoder))


def encoded(model: SharedModel) -> list[Encoded]:
    """Two texts with explanations and three pictures."""
    side = model.image_size
    rng = np.random.default_rng(1)
    texts = [
        replace(prepared(f"t{n}", windows=(f"a town {n}",)), explanation=Explanation(f"a red band {n}"))
        for n in range(2)
    ]
    pictures = [prepared(f"i{n}", images=1) for n in range(3)]
    assert side != IMAGE_SIDE
    drawn = [
        replace(
            post, images=(replace(post.images[0], pixels=rng.integers(0, 256, (side, side, 3), np.uint8)),)
        )
        for post in pictures
    ]
    results = Encode(model, "m", head=model)([*texts, *drawn])
    return [result for result in results if isinstance(result, Encoded)]


@pytest.mark.parametrize("reads_explanations", [False, True])
def test_a_pair_has_the_same_score_and_parts_whichever_side_asked(reads_explanations: bool) -> None:
    model, store = served(reads_explanations), Points()
    posts = encoded(model)
    store.add(*posts)
    own = rules(FULL, rerank=True)
    matcher = Matcher(store.search, own, evidence=PairEvidence(own, store.get, model))
    seen: dict[str, list[tuple[float, ...]]] = {}
    for matches in matcher.match(posts):
        for match in matches:
            parts = match.score, match.itm_probability, match.explanation_similarity, match.entity_overlap
            seen.setdefault(match.match_id, []).append(
                tuple(float(part) for part in parts if part is not None)
            )
    assert len(seen) == 6
    for first, second in seen.values():
        assert len(first) == 4
        assert first == pytest.approx(second, abs=1e-5)


def test_a_matching_head_that_no_longer_computes_is_not_the_posts_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(head: MatchingHead, pixels: np.ndarray) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(MatchingHead, "encode_images", broken)
    with pytest.raises(FatalError, match="no longer computes"):
        encoded(served(reads_explanations=False))


def test_reranked_matches_come_in_the_order_of_the_head() -> None:
    model, store = served(False), Points()
    posts = encoded(model)
    store.add(*posts)
    own = rules(FULL, rerank=True)
    (matches,) = Matcher(store.search, own, evidence=PairEvidence(own, store.get, model)).match(posts[:1])
    order = [match.itm_probability or 0.0 for match in matches]
    assert len(order) == 3
    assert order == sorted(order, reverse=True)
    assert [match.rank for match in matches] == [1, 2, 3]
