"""The demo's stream: posts whose partners are known, written as the JSONL file that `entityclip run` reads.

A pair arrives as two posts, a text and a picture, anywhere in the stream. The text names an entity and
never says what it looks like; the picture shows its flag somewhere in a scene. Which post belongs to
which stays in `Answer` and is told to nobody else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.flagnews.captions import caption
from model.flagnews.compose import take_photograph
from model.flagnews.entities import Entity, folds, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.scenes import draw_scene, scene_kinds, scene_rng
from model.flagnews.shapes import render_flag
from worker.demo.broken import broken_posts

STREAM_NAME = "posts.jsonl"
PICTURE_SIZE = 320  # pixels
_SCENE_SIZE = 427  # a picture shows a part of its scene
_FLAG_HEIGHT = 200
_SHARE_RANGE = (0.03, 0.20)  # part of the picture that the flag takes
_SPAN = timedelta(hours=6)
_DEMO_TAG = 0xDE30  # keeps these random streams apart from others that use the same seed


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How many posts of each kind.

    Args:
        pairs: entities with a text and a picture, in two posts.
        lone_texts, lone_pictures: posts without a partner.
        unseen_fold: looks of this fold were held out of the model's training and are left out; None uses all.
    """

    pairs: int = 22
    lone_texts: int = 5
    lone_pictures: int = 5
    unseen_fold: int | None = None
    seed: int = 0

    @property
    def good_posts(self) -> int:
        """Posts that are drawn; the broken ones come on top."""
        return 2 * self.pairs + self.lone_texts + self.lone_pictures


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of the good posts.

    Args:
        entity: post id -> the entity that it is about; no two entities of one stream look alike.
        pairs: (text post id, picture post id).
    """

    entity: Mapping[str, str]
    pairs: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream on disk.

    Args:
        path: the JSONL file; its pictures lie beside it.
        posts: lines in it, the broken ones included.
    """

    path: Path
    posts: int
    broken: int
    answer: Answer


def write_stream(
    folder: Path,
    config: StreamConfig,
    *,
    now: datetime | None = None,
    on_post: Callable[[], object] | None = None,
) -> Stream:
    """Draw a stream; the same seed gives the same posts, dated over the six hours before `now`.

    Raises:
        ValueError: more entities asked for than there are.
    """
    rng = np.random.default_rng([_DEMO_TAG, config.seed])
    entities = _draw_entities(config, rng)
    posts = _assign_ids(config, entities, rng)
    started = (now or datetime.now(UTC)).replace(microsecond=0) - _SPAN
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines: list[bytes] = []
    for number, post in enumerate(posts):
        moment = started + _SPAN * number / len(posts)
        lines.append(
            _text_line(post, moment, rng) if post.is_text else _picture_line(post, moment, rng, folder)
        )
        if on_post is not None:
            on_post()
    example = _photograph(entities[0], np.random.default_rng([_DEMO_TAG, config.seed, 1]), 0)
    broken = broken_posts(f"demo-{config.seed}", example)
    for bad in broken:
        lines.insert(int(rng.integers(len(lines) + 1)), bad.line)
    path = folder / STREAM_NAME
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return Stream(path, len(lines), len(broken), _answer(posts))


def held_out_fold(training: Mapping[str, object]) -> int | None:
    """The fold of looks that a checkpoint's `training` says was held out, if it says so."""
    place: object = training
    for name in ("data", "sampling", "unseen_fold"):
        place = place.get(name) if isinstance(place, Mapping) else None
    return place if isinstance(place, int) else None


@dataclass(frozen=True, slots=True)
class _Planned:
    """One good post, before it is drawn; `scene` numbers its scene."""

    id: str
    entity: Entity
    is_text: bool
    scene: int


def _draw_entities(config: StreamConfig, rng: np.random.Generator) -> list[Entity]:
    """Entities of distinct looks: first the pairs', then the lone texts', then the lone pictures'."""
    first: dict[int, Entity] = {}
    for entity in real_entities():
        first.setdefault(entity.look, entity)
    fold_of = folds(real_entities())
    known = [entity for look, entity in first.items() if fold_of[look] != config.unseen_fold]
    wanted = config.pairs + config.lone_texts + config.lone_pictures
    if wanted > len(known):
        raise ValueError(f"{wanted} entities of distinct looks asked for, there are {len(known)}")
    return [known[index] for index in rng.permutation(len(known))[:wanted]]


def _assign_ids(config: StreamConfig, entities: Sequence[Entity], rng: np.random.Generator) -> list[_Planned]:
    """All good posts in the order of their arrival; an id says nothing about the pair."""
    texts = entities[: config.pairs + config.lone_texts]
    pictures = [*entities[: config.pairs], *entities[config.pairs + config.lone_texts :]]
    both = [(entity, True) for entity in texts] + [(entity, False) for entity in pictures]
    order = rng.permutation(len(both))
    return [
        _Planned(f"demo-{config.seed}-{number:03d}", both[index][0], both[index][1], number)
        for number, index in enumerate(order, start=1)
    ]


def _answer(posts: Sequence[_Planned]) -> Answer:
    text_of = {post.entity.look: post.id for post in posts if post.is_text}
    picture_of = {post.entity.look: post.id for post in posts if not post.is_text}
    return Answer(
        entity={post.id: post.entity.name for post in posts},
        pairs=frozenset((text_of[look], picture_of[look]) for look in text_of.keys() & picture_of.keys()),
    )


def _text_line(post: _Planned, moment: datetime, rng: np.random.Generator) -> bytes:
    paraphrases = explanations(post.entity, "test")
    return _line(
        id=post.id,
        text=caption(post.entity.name, rng, "test"),
        entities=[post.entity.name],
        explanation=paraphrases[int(rng.integers(len(paraphrases)))],
        source="demo-wire",
        lang="en",
        published_at=moment.isoformat(),
    )


def _picture_line(post: _Planned, moment: datetime, rng: np.random.Generator, folder: Path) -> bytes:
    relative = Path("pictures") / f"{post.id}.jpg"
    picture = _photograph(post.entity, rng, post.scene)
    Image.fromarray(picture).save(folder / relative, quality=92)
    return _line(
        id=post.id,
        images=[{"path": str(relative)}],
        source="demo-photo-desk",
        published_at=moment.isoformat(),
    )


def _photograph(entity: Entity, rng: np.random.Generator, number: int) -> NDArray[np.uint8]:
    """[S, S, 3] uint8, in a scene of the test split."""
    kinds = scene_kinds("test")
    scene = draw_scene(kinds[number % len(kinds)], scene_rng("test", number, _DEMO_TAG), _SCENE_SIZE, "test")
    low, high = map(math.log, _SHARE_RANGE)
    share = min(math.exp(rng.uniform(low, high)), _SHARE_RANGE[1])
    flag = render_flag(entity.spec, _FLAG_HEIGHT)
    return take_photograph(scene, flag, rng, share=share, size=PICTURE_SIZE).pixels


def _line(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()
