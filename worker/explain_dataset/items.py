"""What is to be explained: the captions of a data set, or the texts of posts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from model.data.sample import Split
from worker.errors import ConfigError, InvalidPost
from worker.posts import PostLimits, decode_post
from worker.transport.base import Partition, Record
from worker.types import ImageRef, Post

POSTS: Final = "posts"  # the kind of a JSONL file of posts; the other kinds are the model's readers


@dataclass(frozen=True, slots=True)
class Item:
    """One text with its id; `post.explanation` is what the data set brings itself.

    Args:
        image: as the data set names it, empty where there is none.
    """

    id: str
    image: str
    post: Post


@dataclass(frozen=True, slots=True)
class Items:
    """All of them, in the order of the file.

    Args:
        name: of the data set and its split, for a person.
        left_out: rows that cannot be used, by reason.
        notes: one line each, of the reader.
    """

    name: str
    items: list[Item]
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def read_items(spec: str, split: str, limit: int | None = None) -> Items:
    """Read what is to be explained.

    Args:
        spec: `KIND:PATH` as `model.data.readers` has it, or `posts:FILE`, a JSONL file of posts.
        split: of a data set; posts have none.
        limit: the first so many.

    Raises:
        ConfigError: the posts cannot be read; one line.
        model.data.sample.DataError: the data set cannot be read; one line.
    """
    kind, _, path = spec.partition(":")
    if kind == POSTS:
        return _read_posts(Path(path), limit)
    from model.data.readers import read_split

    return _of_split(read_split(spec, split), limit)


def _of_split(split: Split, limit: int | None) -> Items:
    items = [
        Item(sample.id, sample.image, Post(sample.id, sample.caption, explanation=sample.explanation or None))
        for sample in islice(split.samples, limit)
    ]
    left_out = Counter({reason.value: count for reason, count in split.left_out.items()})
    return Items(f"{split.dataset} {split.name}", items, left_out, list(split.notes))


def _read_posts(path: Path, limit: int | None) -> Items:
    found = Items(str(path), [])
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            for post in _posts(file, found.left_out):
                if post.id in seen:
                    found.left_out["repeated_id"] += 1
                    continue
                seen.add(post.id)
                found.items.append(Item(post.id, _image_name(post.images), post))
                if limit is not None and len(found.items) >= limit:
                    break
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    return found


def _posts(lines: Iterator[bytes], left_out: Counter[str]) -> Iterator[Post]:
    partition, limits = Partition("posts", 0), PostLimits()
    for offset, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            post = decode_post(Record(partition, offset, None, line), limits)
        except InvalidPost as error:
            left_out[error.reason.value] += 1
        else:
            yield Post(  # what the prompt needs: no pictures in memory
                post.id,
                post.text,
                images=tuple(ImageRef(image.id, image.url, None, image.path) for image in post.images),
                source=post.source,
                lang=post.lang,
                entities=post.entities,
                explanation=post.explanation,
            )


def _image_name(images: tuple[ImageRef, ...]) -> str:
    return next((name for image in images if (name := image.path or image.url)), "")
