"""What may be matched. Every rule is symmetric in the pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model.calibration import Calibration
from model.config import MatchingConfig
from worker.index import Where
from worker.sections import MatchConfig
from worker.types import Post


@dataclass(frozen=True, slots=True)
class MatchRules:
    """What may be matched, and how much of it.

    Args:
        top_k: hits a search asks for.
        max_matches: a post, at most.
        window: largest distance between two posts' dates, None for any. With a window, a post without
            a date is matched only with others without one.
        same_post: whether a post's own text and images match each other.
        same_lang: only posts of one language; a post that names none is matched with none.
        share_entity: only posts that name an entity in common, spelled alike.
        own_below: least own score of a post that is not out of context, see `Match`.
        rerank: whether matches are ordered by the matching head.
        all_parts: whether parts are told that the score does not depend on.
    """

    calibration: Calibration
    model_id: str
    top_k: int = 20
    max_matches: int = 10
    window: timedelta | None = None
    same_post: bool = False
    same_lang: bool = False
    share_entity: bool = False
    own_below: float = 0.5
    rerank: bool = False
    all_parts: bool = False

    @property
    def asks_head(self) -> bool:
        """Whether pairs are scored by the matching head, so that pictures need its scalars."""
        return self.rerank or "itm" in self.calibration.needs

    @property
    def asks_margin(self) -> bool:
        """Whether a pair's score depends on its rivals, however far below they are."""
        return self.all_parts or "margin" in self.calibration.needs

    def partners(self, post: Post) -> Where | None:
        """Which points a post may be matched with; None for none at all."""
        if (self.same_lang and not post.lang) or (self.share_entity and not post.entities):
            return None
        dated = self.window is not None and post.published_at is not None
        return Where(
            exclude_post=None if self.same_post else post.id,
            langs=(post.lang,) if self.same_lang and post.lang else (),
            entities=post.entities if self.share_entity else (),
            undated=self.window is not None and not dated,  # the dated ones do not see it either
            published_from=_shifted(post.published_at, self.window, -1) if dated else None,
            published_to=_shifted(post.published_at, self.window, 1) if dated else None,
        )

    def own_score(self, payload: Mapping[str, object]) -> float | None:
        """The probability that a point belongs to what else its post shows; None where that is nothing."""
        return own_score(self.calibration, payload)


def own_score(calibration: Calibration, payload: Mapping[str, object]) -> float | None:
    """As `MatchRules.own_score`."""
    cosine = payload.get("own_cosine")
    return calibration.own_score(cosine) if isinstance(cosine, float | int) else None


def match_rules(match: MatchConfig, fitted: MatchingConfig, model_id: str) -> MatchRules:
    """The rules as configured.

    Args:
        fitted: the checkpoint's; its threshold holds where none is configured.
    """
    return MatchRules(
        Calibration.of(fitted, match.threshold),
        model_id,
        top_k=match.top_k,
        max_matches=match.max_matches,
        window=None if match.window_days is None else timedelta(days=match.window_days),
        same_post=match.same_post,
        same_lang=match.same_lang,
        share_entity=match.share_entity,
        own_below=match.own_below,
        rerank=match.rerank,
        all_parts=match.all_parts,
    )


def _shifted(moment: datetime | None, by: timedelta | None, sign: int) -> datetime | None:
    if moment is None or by is None:
        return None
    try:
        return moment + sign * by
    except OverflowError:
        return (datetime.min if sign < 0 else datetime.max).replace(tzinfo=UTC)
