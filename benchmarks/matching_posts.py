"""FlagNews as streams of posts whose partners are known: what `benchmarks.matching_stream` feeds the worker.

Many small streams in one file, each in a time window of its own, so that with `match.window_days` the posts
of one stream are candidates for each other and for nobody else. Within a stream no two subjects look alike.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.flagnews.bank import PictureBank
from model.flagnews.captions import caption
from model.flagnews.entities import Entity, folds, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.pools import entity_a_look

STREAM_NAME = "posts.jsonl"
WINDOW_DAYS = 1.0
_APART = timedelta(days=10)
_SPAN = timedelta(hours=6)
_STARTED = datetime(2000, 1, 1, tzinfo=UTC)
_QUALITY = 95
_TAG = 0x3A7C  # keeps these random streams apart from others that use the same seed


@dataclass(frozen=True, slots=True)
class Mix:
    """What one stream holds; every entry has a look of its own.

    Args:
        pairs: a text and a picture of one look, in two posts.
        lone_texts, lone_pictures: posts without a partner.
        right: posts of a text and its picture, each with another post of the same look, a text or a picture.
        swapped: posts of a text and the picture of another look, each with another post of one of the two.
    """

    pairs: int = 18
    lone_texts: int = 13
    lone_pictures: int = 13
    right: int = 5
    swapped: int = 5

    @property
    def looks(self) -> int:
        """Looks in a stream."""
        return self.pairs + self.lone_texts + self.lone_pictures + self.right + 2 * self.swapped

    @property
    def posts(self) -> int:
        """Posts in a stream."""
        return 2 * (self.pairs + self.right + self.swapped) + self.lone_texts + self.lone_pictures


@dataclass(frozen=True, slots=True)
class Planned:
    """One post before it is written.

    Args:
        text, picture: the look of either, None without.
    """

    id: str
    stream: int
    text: int | None
    picture: int | None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the posts.

    Args:
        posts: by id.
        pairs: (text post, picture post) of one look and stream, two posts each.
    """

    posts: Mapping[str, Planned]
    pairs: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @classmethod
    def of(cls, planned: Sequence[Planned]) -> Truth:
        """Count what there is to be found."""
        texts: dict[tuple[int, int | None], list[str]] = defaultdict(list)
        for post in planned:
            if post.text is not None:
                texts[post.stream, post.text].append(post.id)
        pairs = frozenset(
            (text, post.id)
            for post in planned
            if post.picture is not None
            for text in texts[post.stream, post.picture]
            if text != post.id
        )
        return cls({post.id: post for post in planned}, pairs)

    def text_look(self, post_id: str) -> int:
        """The look that the post's text names."""
        look = self.posts[post_id].text
        assert look is not None
        return look

    def is_right(self, text_post: str, picture_post: str) -> bool:
        """Whether text and picture are of one look."""
        return self.posts[text_post].text == self.posts[picture_post].picture

    @property
    def both(self) -> frozenset[str]:
        """Posts of a text and a picture."""
        return frozenset(name for name, post in self.posts.items() if None not in (post.text, post.picture))

    @property
    def swapped(self) -> frozenset[str]:
        """Those of them whose text and picture are of different looks."""
        return frozenset(name for name in self.both if not self.is_right(name, name))


def halves(unseen_fold: int | None, seed: int) -> tuple[list[int], list[int]]:
    """All real looks in two disjoint halves, seen and unseen ones shared out evenly."""
    fold_of = folds(real_entities())
    looks = np.random.default_rng([_TAG, seed]).permutation(sorted(entity_a_look())).tolist()
    looks.sort(key=lambda look: fold_of[look] == unseen_fold)  # stable
    return looks[::2], looks[1::2]


def plan(looks: Sequence[int], streams: int, mix: Mix, name: str, seed: int) -> list[Planned]:
    """The posts of all streams, stream by stream, each in the order of arrival.

    Those without a partner come first: a stream that has run for a while holds posts about others already.

    Raises:
        ValueError: fewer looks than a stream holds.
    """
    if mix.looks > len(looks):
        raise ValueError(f"a stream holds {mix.looks} looks, there are {len(looks)}")
    rng = np.random.default_rng([_TAG, seed, *name.encode()])
    planned: list[Planned] = []
    for stream in range(streams):
        chosen = [int(look) for look in rng.permutation(looks)[: mix.looks]]
        kinds = list(_kinds(chosen, mix))
        lone = mix.lone_texts + mix.lone_pictures
        order = [*rng.permutation(lone), *(lone + rng.permutation(len(kinds) - lone))]
        planned += [
            Planned(f"{name}-{stream:03d}-{place:03d}", stream, *kinds[index])
            for place, index in enumerate(order)
        ]
    return planned


def _kinds(looks: list[int], mix: Mix) -> Iterator[tuple[int | None, int | None]]:
    """(look of the text, look of the picture) of every post of a stream, those without a partner first."""
    rest = iter(looks)
    for _ in range(mix.lone_texts):
        yield next(rest), None
    for _ in range(mix.lone_pictures):
        yield None, next(rest)
    for _ in range(mix.pairs):
        look = next(rest)
        yield look, None
        yield None, look
    for number in range(mix.right):
        look = next(rest)
        yield look, look
        yield (look, None) if number % 2 else (None, look)
    for number in range(mix.swapped):
        told, shown = next(rest), next(rest)
        yield told, shown
        yield (shown, None) if number % 2 else (None, told)


def pictures_needed(*plans: Sequence[Planned]) -> int:
    """Of the look that is shown most often."""
    shown = [post.picture for planned in plans for post in planned if post.picture is not None]
    return int(np.bincount(shown).max())


def write(folder: Path, planned: Sequence[Planned], bank: PictureBank, *, explained: bool, seed: int) -> None:
    """Write the posts; the same plan and seed give the same ones, with or without explanations.

    Args:
        bank: of the test split, with `pictures_needed` pictures of each look; none stands in two posts.
        explained: whether texts come with an explanation.
    """
    rng = np.random.default_rng([_TAG, seed, 1])
    entity_of, rows = entity_a_look(), _rows(bank)
    (folder / "pictures").mkdir(parents=True)
    counts: dict[int, int] = {}
    with (folder / STREAM_NAME).open("w", encoding="utf-8") as file:
        for place, post in enumerate(planned):
            fields: dict[str, object] = {"id": post.id, "published_at": _dated(post, place).isoformat()}
            if post.text is not None:
                fields |= _text(entity_of[post.text], rng, explained)
            if post.picture is not None:
                fields["images"] = [{"path": f"pictures/{post.id}.jpg"}]
                row = rows[post.picture][counts.get(post.picture, 0)]
                counts[post.picture] = counts.get(post.picture, 0) + 1
                Image.fromarray(bank.pixels[row]).save(
                    folder / "pictures" / f"{post.id}.jpg", quality=_QUALITY
                )
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def _dated(post: Planned, place: int) -> datetime:
    return _STARTED + post.stream * _APART + timedelta(seconds=place % _SPAN.seconds)


def _text(entity: Entity, rng: np.random.Generator, explained: bool) -> dict[str, object]:
    """Without `entities`: their overlap would tell right from wrong by itself."""
    options = explanations(entity, "test")
    explanation = options[int(rng.integers(len(options)))]
    text: dict[str, object] = {"text": caption(entity.name, rng, "test")}
    return text | {"explanation": explanation} if explained else text


def _rows(bank: PictureBank) -> dict[int, NDArray[np.int64]]:
    """The rows of every look."""
    looks = bank.looks
    return {int(look): np.flatnonzero(looks == look) for look in np.unique(looks)}
