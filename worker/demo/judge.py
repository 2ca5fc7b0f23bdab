"""Matches against the known answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from worker.demo.stream import Answer
from worker.types import Match


class Verdict(StrEnum):
    """Of one match."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # one of the posts is not of this stream: a store may hold older ones


@dataclass(frozen=True, slots=True)
class Judgement:
    """Counts over a stream's matches.

    Args:
        right, wrong: matches; unknown ones are in neither.
        pairs: that there are to be found.
        missed: (text post id, picture post id) of those that were not.
    """

    right: int
    wrong: int
    pairs: int
    missed: tuple[tuple[str, str], ...]

    @property
    def precision(self) -> float | None:
        """Right matches among the judged ones; None where there are none."""
        judged = self.right + self.wrong
        return self.right / judged if judged else None

    @property
    def recall(self) -> float | None:
        """Pairs found among all pairs; None where there are none."""
        return (self.pairs - len(self.missed)) / self.pairs if self.pairs else None

    @property
    def partner_of_missed(self) -> dict[str, str]:
        """Each post of a missed pair -> the other one."""
        return {one: other for pair in self.missed for one, other in (pair, pair[::-1])}


def verdict(match: Match, answer: Answer) -> Verdict:
    """Whether text and picture are about the same entity."""
    if match.text_post_id not in answer.entity or match.image_post_id not in answer.entity:
        return Verdict.UNKNOWN
    same = answer.entity[match.text_post_id] == answer.entity[match.image_post_id]
    return Verdict.RIGHT if same else Verdict.WRONG


def judge(matches: Iterable[Match], answer: Answer) -> Judgement:
    """Count; a pair that is matched twice counts once."""
    verdicts = {(match.text_post_id, match.image_post_id): verdict(match, answer) for match in matches}
    counts = list(verdicts.values())
    missed = sorted(answer.pairs - verdicts.keys())
    return Judgement(
        counts.count(Verdict.RIGHT), counts.count(Verdict.WRONG), len(answer.pairs), tuple(missed)
    )
