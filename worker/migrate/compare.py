"""`entityclip migrate compare`: the answers of the two collections to the same questions.

The questions are stored texts and pictures that both collections hold, each asked with its own model's
vector: a text for pictures, a picture for texts, of other posts.
"""

from __future__ import annotations

import random
import statistics
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from model.calibration import Calibration, PairParts
from worker.index import Hit
from worker.migrate.collection import ModelCollection, Row

TOP = 10
_CHUNK = 32
_ASKED_PER_PLACE = 8  # neighbours in the order of the ids, which are as good as random


@dataclass(frozen=True, slots=True)
class Answers:
    """Old and new answers to one question: the posts, best first, and how many pass as matches."""

    kind: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    old_matches: int
    new_matches: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers to the questions of one kind.

    Args:
        kind: of the questions, `text` or `image`.
        overlap: mean part of the posts among the first ten that both name.
        rank_shift: mean distance of the ranks of a post that both name; None where there is none.
        same_first: part of the questions whose first post is the same.
        old_matches, new_matches: hits among the first ten at or above each model's own threshold, by the
            cosine alone.
    """

    kind: str
    questions: int
    overlap: float
    rank_shift: float | None
    same_first: float
    old_matches: int
    new_matches: int

    def as_dict(self) -> dict[str, object]:
        """As it stands in the JSON."""
        return asdict(self)


def compare(
    old: ModelCollection,
    new: ModelCollection,
    scales: tuple[Calibration, Calibration],
    *,
    questions: int,
    seed: int = 0,
) -> list[Comparison]:
    """Ask both collections.

    Args:
        scales: the old and the new model's calibration.
        questions: of each kind, at most; fewer where the collections hold fewer.

    Returns:
        One comparison a kind of question that there is.
    """
    answers: list[Answers] = []
    for rows in _sampled(old, questions, seed):
        answers += _ask(rows, old, new, scales)
    kinds = ("text", "image")
    return [_summary(kind, found) for kind in kinds if (found := [a for a in answers if a.kind == kind])]


def _sampled(collection: ModelCollection, questions: int, seed: int) -> Iterator[list[Row]]:
    """Points of each kind in equal number, from random places in the order of the ids."""
    chance = random.Random(seed)
    wanted = {kind: min(questions, count) for kind, count in collection.counts().items()}
    seen: set[str] = set()
    for _ in range(4 * (sum(wanted.values()) // _ASKED_PER_PLACE + 1)):
        place = str(uuid.UUID(int=chance.getrandbits(128)))
        taken: list[Row] = []
        for row in next(collection.rows(place)):
            if len(taken) < _ASKED_PER_PLACE and row.id not in seen and wanted.get(row.kind, 0):
                wanted[row.kind] -= 1
                seen.add(row.id)
                taken.append(row)
        if taken:
            yield taken
        if not any(wanted.values()):
            return


def _ask(
    rows: Sequence[Row],
    old: ModelCollection,
    new: ModelCollection,
    scales: tuple[Calibration, Calibration],
) -> list[Answers]:
    ids = [row.id for row in rows]
    ours, theirs = old.vectors(ids), new.vectors(ids)
    both = [row for row in rows if row.id in ours and row.id in theirs]
    if not both:
        return []
    # More hits than places: several pictures or windows of one post take one place.
    found = [
        side.nearest([points[row.id] for row in both], TOP * 3)
        for side, points in ((old, ours), (new, theirs))
    ]
    return [
        Answers(
            row.kind,
            _posts(before),
            _posts(after),
            _matches(before, scales[0]),
            _matches(after, scales[1]),
        )
        for row, before, after in zip(both, *found, strict=True)
    ]


def _posts(hits: Sequence[Hit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(hit.payload.get("post_id")) for hit in hits))[:TOP]


def _matches(hits: Sequence[Hit], scale: Calibration) -> int:
    return sum(scale.score(PairParts(hit.score)) >= scale.threshold for hit in hits[:TOP])


def _summary(kind: str, answers: Sequence[Answers]) -> Comparison:
    shifts = [
        abs(answer.old.index(post) - answer.new.index(post))
        for answer in answers
        for post in answer.old
        if post in answer.new
    ]
    return Comparison(
        kind,
        len(answers),
        statistics.fmean(_overlap(answer) for answer in answers),
        statistics.fmean(shifts) if shifts else None,
        statistics.fmean(answer.old[:1] == answer.new[:1] for answer in answers),
        sum(answer.old_matches for answer in answers),
        sum(answer.new_matches for answer in answers),
    )


def _overlap(answer: Answers) -> float:
    longest = max(len(answer.old), len(answer.new))
    return len(set(answer.old) & set(answer.new)) / longest if longest else 1.0
