"""Matches against the known answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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


@dataclass(frozen=True, slots=True)
class ContextJudgement:
    """How the posts with text and picture were told apart; only those with a match can be flagged.

    Args:
        flagged_swapped: swapped posts that were flagged `out_of_context`, of `swapped`.
        flagged_whole: posts flagged though text and picture belong together, of `whole`.
    """

    flagged_swapped: int
    swapped: int
    flagged_whole: int
    whole: int


def verdict(match: Match, answer: Answer) -> Verdict:
    """Whether text and picture are about the same entity."""
    if match.text_post_id not in answer.text or match.image_post_id not in answer.picture:
        return Verdict.UNKNOWN
    same = answer.text[match.text_post_id] == answer.picture[match.image_post_id]
    return Verdict.RIGHT if same else Verdict.WRONG


def judge(matches: Iterable[Match], answer: Answer, texts: Collection[str] | None = None) -> Judgement:
    """Count; a pair that is matched twice counts once.

    Args:
        texts: entities; only matches and pairs whose text names one of them count. None for all.
    """
    verdicts = {
        (match.text_post_id, match.image_post_id): verdict(match, answer)
        for match in matches
        if texts is None or answer.text.get(match.text_post_id) in texts
    }
    pairs = {pair for pair in answer.pairs if texts is None or answer.text[pair[0]] in texts}
    counts = list(verdicts.values())
    missed = sorted(pairs - verdicts.keys())
    return Judgement(counts.count(Verdict.RIGHT), counts.count(Verdict.WRONG), len(pairs), tuple(missed))


def judge_groups(matches: Sequence[Match], answer: Answer) -> dict[str, Judgement]:
    """Apart by whether the text's entity is of a look that was trained on; none where all are `seen`."""
    if not answer.unseen:
        return {}
    seen = set(answer.text.values()) - answer.unseen
    return {"seen": judge(matches, answer, seen), "unseen": judge(matches, answer, answer.unseen)}


def judge_context(matches: Iterable[Match], answer: Answer) -> ContextJudgement:
    """Count the posts with text and picture that some match calls out of context."""
    flagged = {post_id for match in matches for post_id in match.out_of_context}
    whole = answer.both - answer.swapped
    return ContextJudgement(
        len(flagged & answer.swapped), len(answer.swapped), len(flagged & whole), len(whole)
    )
