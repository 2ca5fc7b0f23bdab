"""Small stand-ins at the edges of the pipeline: a source in memory, a sink in memory, makers of posts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import numpy as np

from worker.errors import TransientError
from worker.flow.intake import Decoded
from worker.stages.async_stage import AsyncStep
from worker.stages.chain import Steps
from worker.transport.base import Message, Partition, Record
from worker.types import (
    DeadLettered,
    Dropped,
    Encoded,
    Explanation,
    Gathered,
    Outcome,
    Post,
    Prepared,
    PreparedImage,
    TakeDown,
    Unmatched,
)

POSTS = Partition("posts", 0)
IMAGE_SIDE = 4


def record(
    offset: int, post_id: str | None = None, *, epoch: int = 0, partition: Partition = POSTS
) -> Record:
    """A post of one sentence as it is delivered."""
    post_id = f"post{offset}" if post_id is None else post_id
    value = json.dumps({"id": post_id, "text": f"Text {offset}."}).encode()
    return Record(partition, offset, post_id.encode(), value, epoch=epoch)


def prepared(
    post_id: str,
    *,
    images: int = 0,
    windows: tuple[str, ...] = (),
    published_at: datetime | None = None,
    source_record: Record | None = None,
) -> Prepared:
    """A post with grey images."""
    pixels = np.full((IMAGE_SIDE, IMAGE_SIDE, 3), 127, np.uint8)
    return Prepared(
        source_record or record(0, post_id),
        Post(post_id, text=" ".join(windows), published_at=published_at, entities=("E",)),
        tuple(PreparedImage(str(number), pixels, f"{post_id}-{number}") for number in range(images)),
        windows,
    )


def passing_steps(
    *,
    gather: AsyncStep[Decoded, Gathered | DeadLettered] | None = None,
    prepare: Callable[[Sequence[Gathered]], Sequence[Prepared | DeadLettered]] | None = None,
    encode: Callable[[Sequence[Prepared]], Sequence[Encoded | DeadLettered]] | None = None,
    index: Callable[[Sequence[Encoded | TakeDown]], Sequence[Encoded | Unmatched | DeadLettered | Dropped]]
    | None = None,
    emit: Callable[[Sequence[Outcome]], Sequence[Outcome]] | None = None,
) -> Steps:
    """Steps that let every post through unmatched, but for those given."""

    def pass_index(items: Sequence[Encoded | TakeDown]) -> list[Encoded | Unmatched | DeadLettered]:
        return [
            item if isinstance(item, Encoded) else Unmatched(item.record, item.post_id, 0) for item in items
        ]

    def pass_prepare(items: Sequence[Gathered]) -> list[Prepared | DeadLettered]:
        return [Prepared(item.record, item.post, (), (item.post.text,)) for item in items]

    @asynccontextmanager
    async def open_gather() -> AsyncIterator[AsyncStep[Decoded, Gathered | DeadLettered]]:
        yield gather or _pass_gather

    return Steps(
        gather=open_gather,
        prepare=prepare or pass_prepare,
        encode=encode or (lambda items: [Encoded(item, ()) for item in items]),
        index=index or pass_index,
        match=lambda items: [Unmatched(item.prepared.record, item.prepared.post.id, 0) for item in items],
        emit=emit or (lambda items: items),
    )


async def _pass_gather(item: Decoded) -> Gathered | DeadLettered:
    return Gathered(item.record, item.post, {}, Explanation())


class MemorySource:
    """Delivers given records, a few a poll; keeps what is committed. `endless` is never exhausted."""

    def __init__(self, records: Sequence[Record], *, a_poll: int = 7, endless: bool = False) -> None:
        self._records = list(records)
        self._next = 0
        self._a_poll = a_poll
        self._endless = endless
        self.commits: list[dict[Partition, int]] = []
        self.epochs = {item.partition: item.epoch for item in records}
        self.paused = False
        self.pauses = 0
        self.polls_while_paused = 0
        self.poll_failures = 0
        self.silence = ""
        self.commit_failures = 0
        self.mark_failures = 0
        self.notes: dict[Partition, str] = {}

    @property
    def delivered(self) -> int:
        """How many records were handed out."""
        return self._next

    def poll(self, timeout_s: float) -> Sequence[Record]:
        if self.poll_failures:
            self.poll_failures -= 1
            raise TransientError("the broker is away")
        if self.paused:
            self.polls_while_paused += 1
            time.sleep(min(timeout_s, 0.01))
            return []
        batch = self._records[self._next : self._next + self._a_poll]
        self._next += len(batch)
        if not batch:
            time.sleep(min(timeout_s, 0.01))
        return batch

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        if self.commit_failures:
            self.commit_failures -= 1
            raise TransientError("the coordinator is away")
        self.commits.append(dict(next_offsets))

    def mark(self, notes: Mapping[Partition, str]) -> None:
        if self.mark_failures:
            self.mark_failures -= 1
            raise TransientError("the coordinator is away")
        self.notes |= notes

    def note(self, partition: Partition) -> str:
        return self.notes.get(partition, "")

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def epoch(self, partition: Partition) -> int | None:
        return self.epochs.get(partition)

    def away(self) -> str:
        return self.silence

    def exhausted(self) -> bool:
        return not self._endless and self._next >= len(self._records)

    def close(self, *, clean: bool = True) -> None:
        """Nothing is held open."""

    @property
    def committed(self) -> dict[Partition, int]:
        """The newest commit of each partition."""
        return {partition: offset for commit in self.commits for partition, offset in commit.items()}


class MemorySink:
    """Keeps messages by key; fails as often as told before it takes a write."""

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[Message] = []
        self._lock = threading.Lock()
        self.failures = failures

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        return {message.key for message in self.messages} & set(keys)

    def write(self, messages: Sequence[Message]) -> None:
        with self._lock:
            if self.failures:
                self.failures -= 1
                raise TransientError("the sink is away")
            self.messages += messages

    def close(self) -> None:
        """Nothing is held open."""
