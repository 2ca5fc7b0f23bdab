"""`entityclip why`: what became of a post, and what stands between two posts that do not match.

Looks into the store and, where they are named, into the outcomes and the dead letters. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.config import Config
from worker.errors import ConfigError
from worker.index import Point, VectorIndex, Where, served_model
from worker.matching import MatchRules, PairEvidence, asks_model, match_rules
from worker.model_info import ModelInfo, read_model
from worker.shared_model import SharedModel, share_model
from worker.store.client import Store, open_store
from worker.transport.spec import Spec
from worker.why.pairs import Pair, pairs_between, part, partners_of
from worker.why.records import letters_of, outcomes_of

if TYPE_CHECKING:
    from worker.dead_letters.letter import DeadLetterLine


@dataclass(frozen=True, slots=True)
class Stored:
    """One point of a post.

    Args:
        part: the image's id, or the number of the text window.
    """

    kind: str
    part: str
    text: str
    explanation: str
    explanation_status: str
    entities: tuple[str, ...]
    published_at: str
    indexed_at: str


@dataclass(frozen=True, slots=True)
class Story:
    """What is known about one post.

    Args:
        outcomes, dead_letters: what the sinks hold of it; None where no such sink was named.
        partners: its nearest of the other kind, best first; empty where two posts were asked about.
    """

    post_id: str
    points: tuple[Stored, ...]
    outcomes: tuple[Mapping[str, Any], ...] | None
    dead_letters: tuple[Mapping[str, Any], ...] | None
    partners: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer.

    Args:
        threshold: least score of a match.
        pairs: every text window of the one post with every image of the other, best first.
    """

    model_id: str
    threshold: float
    posts: tuple[Story, ...]
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The question.

    Args:
        posts: ids, one or two different ones.
        outcomes, dead_letters: sinks to look into.
        top: partners shown for each point.
    """

    posts: tuple[str, ...]
    outcomes: Spec | None = None
    dead_letters: Spec | None = None
    top: int = 5


def explain_why(asked: Asked, config: Config) -> Explained:
    """Look into the store and the sinks; blocks for as long as they take.

    Raises:
        ConfigError: no store there, no such checkpoint, or a sink that cannot be read.
        FatalError: the store was filled by another model.
        TransientError: the store or the broker is away.
    """
    model = read_model(config.model)
    rules = match_rules(config.match, model.matching, model.id)
    with open_store(
        config.store, api_key=config.store_api_key, timeout_s=config.store_timeout_s, create=False
    ) as store:
        index = _open(store, config.alias, model)
        evidence = (
            None
            if index is None
            else PairEvidence(rules, index.get, _pair_model(config, rules), search=index.search)
        )
        points = {post: _points(index, post) for post in asked.posts}
        partners: dict[str, tuple[Pair, ...]] = {}
        pairs: tuple[Pair, ...] = ()
        if index is not None and evidence is not None and len(asked.posts) == 1:
            partners = {
                post: partners_of(index, rules, evidence, those, asked.top) for post, those in points.items()
            }
        elif index is not None and evidence is not None:
            pairs = pairs_between(index, rules, evidence, *points.values())
    outcomes, letters = _records(asked, config)
    stories = tuple(
        Story(
            post,
            tuple(map(_stored, points[post])),
            None if outcomes is None else tuple(outcomes[post]),
            None if letters is None else tuple(map(_letter, letters[post])),
            partners.get(post, ()),
        )
        for post in asked.posts
    )
    return Explained(rules.model_id, rules.calibration.threshold, stories, pairs)


def _open(store: Store, alias: str, model: ModelInfo) -> VectorIndex | None:
    """The index, None while nothing is in it: the sinks may still know what became of a post."""
    if served_model(store, alias) is None:
        return None
    if store.call(store.client.count, alias, exact=True).count == 0:
        return None
    index = VectorIndex(store, alias, model.id, model.dim)
    index.open_existing()
    return index


def _pair_model(config: Config, rules: MatchRules) -> SharedModel | None:
    """The model, where the score of a pair needs more than the store: reading it takes seconds.

    Raises:
        ConfigError: the model cannot be used.
    """
    if not asks_model(rules):
        return None
    from model.checkpoint import CheckpointError, load
    from model.serving.encoder import Encoder

    try:
        checkpoint = load(config.model)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    return share_model(checkpoint, Encoder.of(checkpoint, device=config.device), rules)


def _points(index: VectorIndex | None, post: str) -> list[Point]:
    if index is None:
        return []
    points = index.scroll(Where(post_id=post), with_vectors=True)
    return sorted(points, key=lambda point: (str(point.payload.get("kind")), part(point).zfill(9)))


def _records(
    asked: Asked, config: Config
) -> tuple[Mapping[str, list[dict[str, Any]]] | None, Mapping[str, list[DeadLetterLine]] | None]:
    letters = None
    if asked.dead_letters is not None:
        letters = letters_of(asked.posts, asked.dead_letters, config.kafka)
    if asked.outcomes is None:
        return None, letters
    return outcomes_of(asked.posts, letters or {}, asked.outcomes, config.kafka), letters


def _stored(point: Point) -> Stored:
    entities = point.payload.get("entities")

    def text(name: str) -> str:
        value = point.payload.get(name)
        return "" if value is None else str(value)

    return Stored(
        kind=text("kind"),
        part=part(point),
        text=text("text"),
        explanation=text("explanation"),
        explanation_status=text("explanation_status"),
        entities=tuple(map(str, entities)) if isinstance(entities, list | tuple) else (),
        published_at=text("published_at"),
        indexed_at=text("indexed_at"),
    )


def _letter(letter: DeadLetterLine) -> dict[str, Any]:
    """What a dead letter says, without the post itself."""
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "stage": letter.stage,
        "attempts": letter.attempts,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
    }
