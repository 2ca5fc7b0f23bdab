"""What became of a stream, as far as it will be shown: bounded however long the stream is."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.errors import InvalidPost, TransientError
from worker.media import MediaStore
from worker.page import post_text
from worker.posts import decode_post
from worker.printable import excerpt, one_line
from worker.query.output import thumbnail_of
from worker.stages.prepare import LocalLoader
from worker.types import DeadLettered, ImageRef, Match, Matched, Outcome, Unmatched

MOST_MATCHES = 300
MOST_LONE = 400
MOST_DEAD_LETTERS = 100
_MOST_IMAGE_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class Lone:
    """A stored post that no match names; `path` or `content_hash` tells its first picture, if it has one."""

    post_id: str
    text: str
    has_picture: bool
    content_hash: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A dead letter as it is shown."""

    reason: str
    detail: str
    stage: str
    offset: int
    raw: str


class Collector:
    """Takes outcomes one by one, on one thread, and keeps what a page can hold.

    Args:
        on_outcome: told of each outcome too.
    """

    def __init__(self, on_outcome: Callable[[Outcome], None] | None = None) -> None:
        self._on_outcome = on_outcome
        self._best: list[tuple[float, str, Match]] = []  # a heap, the worst on top
        self._lone: dict[str, Lone] = {}
        self._partnered: set[str] = set()
        self.matches_seen = 0
        self.lone_dropped = 0
        self.dead_letters: list[Refused] = []

    def __call__(self, outcome: Outcome) -> None:
        """Take one outcome."""
        match outcome:
            case Matched(matches=matches):
                for found in matches:
                    self._take(found)
            case Unmatched(points=points) if points:
                self._wait(outcome)
            case DeadLettered() if len(self.dead_letters) < MOST_DEAD_LETTERS:
                self.dead_letters.append(_refused(outcome))
        if self._on_outcome is not None:
            self._on_outcome(outcome)

    @property
    def matches(self) -> tuple[Match, ...]:
        """The best, best first."""
        return tuple(match for _, _, match in sorted(self._best, key=lambda entry: (-entry[0], entry[1])))

    @property
    def lone(self) -> tuple[Lone, ...]:
        """Posts that were left without a partner, in the order of their outcomes."""
        return tuple(post for post_id, post in self._lone.items() if post_id not in self._partnered)

    def _take(self, found: Match) -> None:
        self.matches_seen += 1
        self._partnered.update((found.text_post_id, found.image_post_id))
        entry = (found.score, found.match_id, found)
        if len(self._best) < MOST_MATCHES:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)

    def _wait(self, outcome: Unmatched) -> None:
        """A later post may still turn out to be its partner."""
        if outcome.post_id in self._partnered:
            return
        if len(self._lone) >= MOST_LONE:
            self._lone = {post.post_id: post for post in self.lone}
        if len(self._lone) >= MOST_LONE:
            self.lone_dropped += 1
            return
        self._lone[outcome.post_id] = _lone(outcome)


def load_thumbnail(post: Lone, media_root: Path | None, media: MediaStore) -> bytes | None:
    """The thumbnail that the pipeline kept of a lone post's picture, None where there is none."""
    content_hash = post.content_hash
    if not content_hash and post.path:
        try:
            data = LocalLoader(media_root, _MOST_IMAGE_BYTES).load(ImageRef("0", path=post.path))
        except (InvalidPost, TransientError):  # changed or gone since it was read
            return None
        content_hash = hashlib.sha256(data).hexdigest()
    return thumbnail_of(content_hash, media)


def _lone(outcome: Unmatched) -> Lone:
    post = decode_post(outcome.record)
    text = post_text(post.text)
    if not post.images:
        return Lone(post.id, text, has_picture=False)
    first = post.images[0]
    digest = "" if first.data is None else hashlib.sha256(first.data).hexdigest()
    return Lone(post.id, text, has_picture=True, content_hash=digest, path=first.path or "")


def _refused(letter: DeadLettered) -> Refused:
    raw = excerpt(letter.record.value or b"")
    return Refused(letter.reason.value, one_line(letter.detail, 160), letter.stage, letter.record.offset, raw)
