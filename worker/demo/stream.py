"""The demo's stream: posts whose partners are known, written as the JSONL file that `entityclip run` reads.

A pair arrives as two posts, a text and a picture, anywhere in the stream. The text names an entity and
never says what it looks like; the picture shows its flag somewhere in a scene. A few posts bring a text with
a picture; of these some are swapped: the picture shows something else than the text names. Which post belongs
to which stays in `Answer` and is told to nobody else.
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
        whole: posts with a text and a picture of one entity, which has a pair too.
        swapped: posts with the text of one such entity and a picture of another.
        unseen_fold: looks of this fold were held out of the model's training; None for none.
        unseen_pairs: pairs of such looks; no other post shows one.
    """

    pairs: int = 22
    lone_texts: int = 5
    lone_pictures: int = 5
    whole: int = 2
    swapped: int = 1
    unseen_fold: int | None = None
    unseen_pairs: int = 0
    seed: int = 0

    @property
    def good_posts(self) -> int:
        """Posts that are drawn; the broken ones come on top."""
        pairs = self.pairs + self.unseen_pairs
        return 2 * pairs + self.lone_texts + self.lone_pictures + self.whole + self.swapped


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of the good posts.

    Args:
        text, picture: post id -> the entity that its text names, that its picture shows; no two entities of
            one stream look alike.
        unseen: entities whose looks the model was not trained on.
    """

    text: Mapping[str, str]
    picture: Mapping[str, str]
    unseen: frozenset[str] = frozenset()

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """(text post id, picture post id) of two posts about one entity."""
        showing: dict[str, list[str]] = {}
        for post_id, entity in self.picture.items():
            showing.setdefault(entity, []).append(post_id)
        return frozenset(
            (text_id, picture_id)
            for text_id, entity in self.text.items()
            for picture_id in showing.get(entity, ())
            if picture_id != text_id
        )

    @property
    def both(self) -> frozenset[str]:
        """Posts with a text and a picture."""
        return frozenset(self.text.keys() & self.picture.keys())

    @property
    def swapped(self) -> frozenset[str]:
        """Those of them whose picture shows something else than the text names."""
        return frozenset(post_id for post_id in self.both if self.text[post_id] != self.picture[post_id])


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
    cast = _draw_entities(config, rng)
    posts = _assign_ids(config, cast, rng)
    started = (now or datetime.now(UTC)).replace(microsecond=0) - _SPAN
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines: list[bytes] = []
    for number, post in enumerate(posts):
        moment = started + _SPAN * number / len(posts)
        lines.append(_post_line(post, moment, rng, folder))
        if on_post is not None:
            on_post()
    example = _photograph(cast.paired[0], np.random.default_rng([_DEMO_TAG, config.seed, 1]), 0)
    broken = broken_posts(f"demo-{config.seed}", example)
    for bad in broken:
        lines.insert(int(rng.integers(len(lines) + 1)), bad.line)
    path = folder / STREAM_NAME
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    unseen = frozenset(entity.name for entity in cast.unseen)
    return Stream(path, len(lines), len(broken), _answer(posts, unseen))


def held_out_fold(training: Mapping[str, object]) -> int | None:
    """The fold of looks that a checkpoint's `training` says was held out, if it says so."""
    place: object = training
    for name in ("data", "sampling", "unseen_fold"):
        place = place.get(name) if isinstance(place, Mapping) else None
    return place if isinstance(place, int) else None


@dataclass(frozen=True, slots=True)
class _Cast:
    """The entities of a stream, no two of one look."""

    paired: Sequence[Entity]
    unseen: Sequence[Entity]
    lone_texts: Sequence[Entity]
    lone_pictures: Sequence[Entity]


@dataclass(frozen=True, slots=True)
class _Planned:
    """One good post, before it is drawn; `scene` numbers its scene."""

    id: str
    named: Entity | None
    shown: Entity | None
    scene: int


def _draw_entities(config: StreamConfig, rng: np.random.Generator) -> _Cast:
    first: dict[int, Entity] = {}
    for entity in real_entities():
        first.setdefault(entity.look, entity)
    fold_of = folds(real_entities())
    known = [entity for look, entity in first.items() if fold_of[look] != config.unseen_fold]
    held_out = [entity for look, entity in first.items() if fold_of[look] == config.unseen_fold]
    own = _drawn(known, config.pairs + config.lone_texts + config.lone_pictures, rng)
    unseen = _drawn(held_out, config.unseen_pairs, rng)
    texts_end = config.pairs + config.lone_texts
    return _Cast(own[: config.pairs], unseen, own[config.pairs : texts_end], own[texts_end:])


def _drawn(entities: Sequence[Entity], wanted: int, rng: np.random.Generator) -> list[Entity]:
    if wanted > len(entities):
        raise ValueError(f"{wanted} entities of distinct looks asked for, there are {len(entities)}")
    return [entities[index] for index in rng.permutation(len(entities))[:wanted]]


def _assign_ids(config: StreamConfig, cast: _Cast, rng: np.random.Generator) -> list[_Planned]:
    """All good posts in the order of their arrival; an id says nothing about the pair."""
    pairs = [*cast.paired, *cast.unseen]
    posts: list[tuple[Entity | None, Entity | None]] = [
        *((entity, None) for entity in (*pairs, *cast.lone_texts)),
        *((None, entity) for entity in (*pairs, *cast.lone_pictures)),
        *_both_kinds(config, cast.paired),
    ]
    order = rng.permutation(len(posts))
    return [
        _Planned(f"demo-{config.seed}-{number:03d}", posts[index][0], posts[index][1], number)
        for number, index in enumerate(order, start=1)
    ]


def _both_kinds(config: StreamConfig, paired: Sequence[Entity]) -> list[tuple[Entity, Entity]]:
    """What the posts with text and picture name and show: the swapped ones two entities, each once."""
    if config.whole + 2 * config.swapped > len(paired):
        raise ValueError(f"{config.whole} whole and {config.swapped} swapped posts need more pairs")
    named = paired[config.whole : config.whole + config.swapped]
    shown = paired[config.whole + config.swapped : config.whole + 2 * config.swapped]
    return [*((entity, entity) for entity in paired[: config.whole]), *zip(named, shown, strict=True)]


def _answer(posts: Sequence[_Planned], unseen: frozenset[str]) -> Answer:
    return Answer(
        text={post.id: post.named.name for post in posts if post.named is not None},
        picture={post.id: post.shown.name for post in posts if post.shown is not None},
        unseen=unseen,
    )


def _post_line(post: _Planned, moment: datetime, rng: np.random.Generator, folder: Path) -> bytes:
    fields: dict[str, object] = {
        "id": post.id,
        "source": "demo-photo-desk" if post.named is None else "demo-wire",
    }
    if post.named is not None:
        fields |= _text_fields(post.named, rng)
    if post.shown is not None:
        relative = Path("pictures") / f"{post.id}.jpg"
        Image.fromarray(_photograph(post.shown, rng, post.scene)).save(folder / relative, quality=92)
        fields |= {"images": [{"path": str(relative)}]}
    return json.dumps({**fields, "published_at": moment.isoformat()}, ensure_ascii=False).encode()


def _text_fields(entity: Entity, rng: np.random.Generator) -> dict[str, object]:
    paraphrases = explanations(entity, "test")
    return {
        "text": caption(entity.name, rng, "test"),
        "entities": [entity.name],
        "explanation": paraphrases[int(rng.integers(len(paraphrases)))],
        "lang": "en",
    }


def _photograph(entity: Entity, rng: np.random.Generator, number: int) -> NDArray[np.uint8]:
    """[S, S, 3] uint8, in a scene of the test split."""
    kinds = scene_kinds("test")
    scene = draw_scene(kinds[number % len(kinds)], scene_rng("test", number, _DEMO_TAG), _SCENE_SIZE, "test")
    low, high = map(math.log, _SHARE_RANGE)
    share = min(math.exp(rng.uniform(low, high)), _SHARE_RANGE[1])
    flag = render_flag(entity.spec, _FLAG_HEIGHT)
    return take_photograph(scene, flag, rng, share=share, size=PICTURE_SIZE).pixels
