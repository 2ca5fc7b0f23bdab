"""The parts that a pair's score is made of, beyond the cosine that a search brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.calibration import PairParts
from model.lru import LruCache
from worker.index import Hit, Point, Search
from worker.matching.rivals import SIDES, Rival, RivalSearch, Side, margin
from worker.matching.rules import MatchRules

Vector = NDArray[np.float32]
_KEPT_BYTES = 16 << 20
_POINTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text and a picture that may match.

    Args:
        text, image: the one that was found rather than asked about has no vectors.
        cosine: of the two vectors.
        rivals: the nearest ones on the sides where they are known.
    """

    text: Point
    image: Point
    cosine: float
    rivals: Mapping[Side, Rival] = field(default_factory=dict)

    def pair(self, first: Side) -> tuple[Point, Point]:
        """Both points, that of one side first."""
        return (self.text, self.image) if first == "text" else (self.image, self.text)


class PairModel(Protocol):
    """What is asked of `worker.shared_model.SharedModel`."""

    @property
    def scalars(self) -> int:
        """How many scalars of the matching head a picture has."""

    def encode_texts(self, texts: Sequence[str], explanations: Sequence[str]) -> Vector:
        """B texts, each with its explanation or none, to [B, D]; a NaN row where there is no vector."""

    def logits(
        self,
        texts: Sequence[tuple[str, str]],
        images: Vector,
        scalars: Vector,
        pairs: Sequence[tuple[int, int]],
    ) -> Vector:
        """The matching head's logit of each pair of places. [P] float32."""


def free_parts(candidates: Sequence[Candidate]) -> list[PairParts]:
    """The parts that need neither model nor store."""
    return [
        PairParts(
            one.cosine, entity_overlap=_overlap(*map(entities_of, (one.text.payload, one.image.payload)))
        )
        for one in candidates
    ]


class PairEvidence:
    """The parts of candidates' scores, as far as the rules ask for them. One thread at a time.

    What is costly is asked once a batch, and only of candidates that may still be matches: the pictures'
    vectors of the store, explanations and texts of the model.

    Args:
        get, search: of `VectorIndex`, whose errors pass through; without `search` no rivals are looked for.
        model: None where `asks_model` says that none is needed.
        kept_bytes: of explanations' vectors kept.
    """

    def __init__(
        self,
        rules: MatchRules,
        get: Callable[..., list[Point]],
        model: PairModel | None,
        *,
        search: Callable[[Sequence[Search]], list[list[Hit]]] | None = None,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self._rules = rules
        self._get = get
        self._model = model if asks_model(rules) else None
        self._rivals = RivalSearch(search, rules) if search is not None and rules.asks_margin else None
        self._explanations: LruCache[str, Vector] = LruCache(
            kept_bytes, lambda text, vector: 4 * len(text) + vector.nbytes
        )

    def __call__(self, candidates: Sequence[Candidate]) -> list[PairParts]:
        """The parts of each candidate, in their order."""
        found = free_parts(candidates)
        if self._rivals is not None:
            self._add_margins(self._rivals, candidates, found)
        places = [place for place, parts in enumerate(found) if self._may_match(parts)]
        if self._model is None or not places:
            return found
        chosen = [candidates[place] for place in places]
        vectors = self._vectors([one.image for one in chosen], "image")
        similarities = self._similarities(self._model, chosen, vectors)
        logits = self._logits(self._model, chosen, vectors)
        for place, similarity, logit in zip(places, similarities, logits, strict=True):
            found[place] = replace(found[place], explanation_similarity=similarity, itm=logit)
        return found

    def _may_match(self, parts: PairParts) -> bool:
        """Whether what is still unknown can make it a match, or it is one and all of it is to be told."""
        unknown = ("explanation_similarity", "itm", *(() if parts.margin is not None else ("margin",)))
        return self._rules.calibration.may_match(parts, unknown)

    def _add_margins(self, ask: RivalSearch, candidates: Sequence[Candidate], found: list[PairParts]) -> None:
        """Put the margins in; a pair that the rivals at hand keep below the threshold needs no others."""
        rivals = [dict(one.rivals) for one in candidates]
        for side in SIDES:
            for place, one in enumerate(candidates):
                found[place] = replace(found[place], margin=margin(one.cosine, rivals[place].values()))
            unknown = [
                place
                for place, parts in enumerate(found)
                if side not in rivals[place] and self._may_match(parts)
            ]
            pairs = [candidates[place].pair(side) for place in unknown]
            nearest = ask(side, pairs, self._vectors([own for own, _ in pairs], side))
            for place, rival in zip(unknown, nearest, strict=True):
                rivals[place][side] = rival
        for place, one in enumerate(candidates):
            found[place] = replace(found[place], margin=margin(one.cosine, rivals[place].values()))

    def _vectors(self, points: Sequence[Point], name: Side) -> dict[str, Vector]:
        """The points' vectors by id; of those that are deleted by now, none."""
        known = {point.id: point.vectors[name] for point in points if name in point.vectors}
        missing = sorted({point.id for point in points} - known.keys())
        for start in range(0, len(missing), _POINTS_AT_ONCE):
            fresh = self._get(missing[start : start + _POINTS_AT_ONCE], with_vectors=True, fields=())
            known |= {point.id: point.vectors[name] for point in fresh if name in point.vectors}
        return known

    def _similarities(
        self, model: PairModel, candidates: Sequence[Candidate], vectors: Mapping[str, Vector]
    ) -> list[float | None]:
        """Cosine of each picture and the text's explanation encoded alone."""
        encoded = self._encoded(model, [_explanation(one) for one in candidates])
        return [
            float(vectors[one.image.id] @ encoded[_explanation(one)])
            if one.image.id in vectors and _explanation(one) in encoded
            else None
            for one in candidates
        ]

    def _encoded(self, model: PairModel, explanations: Sequence[str]) -> dict[str, Vector]:
        wanted = [text for text in dict.fromkeys(explanations) if text]
        encoded = self._explanations.find(wanted)
        missing = [text for text in wanted if text not in encoded]
        if missing:
            rows = model.encode_texts(missing, [""] * len(missing))
            fresh = {
                text: row.copy() for text, row in zip(missing, rows, strict=True) if np.isfinite(row).all()
            }
            self._explanations.add(fresh)
            encoded |= fresh
        return encoded

    def _logits(
        self, model: PairModel, candidates: Sequence[Candidate], vectors: Mapping[str, Vector]
    ) -> list[float | None]:
        """The matching head's logit; None for a picture that was stored without its scalars."""
        result: list[float | None] = [None] * len(candidates)
        if not self._rules.asks_head:
            return result
        scalars = {one.image.id: _scalars(one.image, model.scalars) for one in candidates}
        usable = [
            place
            for place, one in enumerate(candidates)
            if one.image.id in vectors and scalars[one.image.id] is not None
        ]
        if not usable:
            return result
        texts = list(dict.fromkeys(_text(candidates[place]) for place in usable))
        images = list(dict.fromkeys(candidates[place].image.id for place in usable))
        text_place, image_place = ({key: n for n, key in enumerate(keys)} for keys in (texts, images))
        pairs = [
            (text_place[_text(one)], image_place[one.image.id]) for one in (candidates[p] for p in usable)
        ]
        rows = np.stack([vectors[id_] for id_ in images]).astype(np.float32)
        stored = np.array([scalars[id_] for id_ in images], np.float32)
        for place, logit in zip(usable, model.logits(texts, rows, stored, pairs), strict=True):
            result[place] = float(logit) if np.isfinite(logit) else None
        return result


def asks_model(rules: MatchRules) -> bool:
    """Whether pairs are scored by more than what the store's search brings."""
    return rules.asks_head or rules.all_parts or "explanation_similarity" in rules.calibration.needs


def entities_of(payload: Mapping[str, object]) -> tuple[str, ...]:
    """The entities that a point's post names."""
    values = payload.get("entities")
    return tuple(map(str, values)) if isinstance(values, list | tuple) else ()


def _overlap(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Jaccard of two lists of names, whatever their case; None where one is empty."""
    a, b = ({" ".join(name.split()).casefold() for name in names} for names in (one, other))
    return len(a & b) / len(a | b) if a and b else None


def _explanation(candidate: Candidate) -> str:
    return str(candidate.text.payload.get("explanation") or "")


def _text(candidate: Candidate) -> tuple[str, str]:
    return str(candidate.text.payload.get("text") or ""), _explanation(candidate)


def _scalars(image: Point, count: int) -> list[float] | None:
    values = image.payload.get("itm")
    if not isinstance(values, list) or len(values) != count:
        return None
    numbers = [float(value) for value in values if isinstance(value, float | int)]
    return numbers if len(numbers) == count else None
