"""Intake: records become work, and work is admitted as far as order and budget allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.errors import InvalidPost, Reason
from worker.flow.budget import Budget
from worker.flow.quarantine import Quarantine
from worker.flow.sequencing import KeySequencer
from worker.posts import PostLimits, decode_post
from worker.transport.base import Partition, Record
from worker.types import DeadLettered, Post, TakeDown

STAGE = "decode"
_MAX_ID_CHARACTERS = 512
_OVERHEAD_BYTES = 4096
_THUMBNAIL_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Decoded:
    """A post that waits for the prepare stage."""

    record: Record
    post: Post


Work = Decoded | TakeDown | DeadLettered


@dataclass(frozen=True, slots=True)
class _Admitted:
    work: Work
    key: str | None  # None: refused, so nothing has to wait for it
    cost_bytes: int


class Intake:
    """Decodes what the source delivered and says what may start. The main thread only; never blocks.

    Args:
        budget: of what is in flight.
        image_bytes: of one image as the encoder takes it.
        limits: of one post.
        is_ours: whether a record's partition is still assigned as it was when it was delivered.
        quarantine: says which records run alone.
        dropped: told of each record that was never begun because its partition was taken away.
    """

    def __init__(
        self,
        budget: Budget,
        image_bytes: int,
        limits: PostLimits,
        is_ours: Callable[[Record], bool],
        quarantine: Quarantine,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._dropped = dropped
        self._quarantine = quarantine
        self._alone: Record | None = None  # while it is in flight nothing else starts
        self._budget = budget
        self._image_bytes = image_bytes + _THUMBNAIL_BYTES
        self._limits = limits
        self._is_ours = is_ours
        self._backlog: deque[Record] = deque()
        self._next: _Admitted | None = None  # decoded, but the budget had no room for it yet
        self._sequencer: KeySequencer[_Admitted] = KeySequencer()
        self._in_flight: dict[tuple[Partition, int, int], _Admitted] = {}

    def offer(self, records: Sequence[Record]) -> None:
        """Take over what was delivered."""
        self._backlog.extend(records)

    @property
    def has_backlog(self) -> bool:
        """Whether something delivered waits for the budget: the source should rest."""
        return bool(self._backlog) or self._next is not None

    @property
    def in_flight(self) -> int:
        """Posts admitted that have no outcome yet, those that wait for another of their id included."""
        return len(self._in_flight)

    def start(self) -> list[Work]:
        """What may start now, in the order of delivery."""
        started: list[Work] = []
        while self._alone is None and (candidate := self._candidate()) is not None:
            if not self._budget.try_take(candidate.cost_bytes):
                self._next = candidate
                break
            self._in_flight[_place(candidate.work.record)] = candidate
            if candidate.key is None or self._sequencer.admit(candidate.key, candidate):
                started.append(candidate.work)
        return started

    def finished(self, record: Record) -> Work | None:
        """A record has its outcome; what waited for it, which may start now.

        Raises:
            KeyError: it was not in flight: a second outcome of one record.
        """
        done = self._in_flight.pop(_place(record))
        if not _is_given_up(done.work):  # the next one may kill the worker before this one is committed
            self._quarantine.finished(record)
        if self._alone is record:
            self._alone = None
        self._budget.give_back(done.cost_bytes)
        following = None if done.key is None else self._sequencer.release(done.key)
        return following.work if following is not None else None

    def forgive(self) -> None:
        """The run ends, and not for the record that is alone in flight, if one is."""
        if self._alone is not None:
            self._quarantine.finished(self._alone)

    def _candidate(self) -> _Admitted | None:
        candidate, self._next = self._next, None
        if candidate is not None:
            if self._is_ours(candidate.work.record):
                return candidate
            self._dropped()
        while self._backlog:
            record = self._backlog[0]
            ours = self._is_ours(record)
            if ours and self._in_flight and self._quarantine.is_suspect(record):
                return None  # it waits until it is alone
            self._backlog.popleft()
            if ours:
                return self._begin(record)
            self._dropped()
        return None

    def _begin(self, record: Record) -> _Admitted:
        """Note or charge first, then decode: decoding may be what kills the process."""
        if not self._quarantine.is_suspect(record):
            self._quarantine.begin(record)
            return self._admissible(record)
        if guilty := self._quarantine.verdict(record):
            deaths = self._quarantine.deaths(record)
            letter = DeadLettered(record, Reason.KILLED_WORKER, guilty, STAGE, deaths)
            return _Admitted(letter, None, len(record.value or b"") + _OVERHEAD_BYTES)
        self._quarantine.charge(record)
        self._alone = record
        return self._admissible(record)

    def _admissible(self, record: Record) -> _Admitted:
        size = len(record.value or b"") + _OVERHEAD_BYTES
        try:
            if record.value is None:
                post_id = _tombstone_id(record)
                return _Admitted(TakeDown(record, post_id), post_id, size)
            post = decode_post(record, self._limits)
        except InvalidPost as error:
            return _Admitted(DeadLettered(record, error.reason, error.detail, STAGE), None, size)
        files = sum(len(image.data or b"") for image in post.images)
        cost_bytes = size + len(post.text) + files + len(post.images) * self._image_bytes
        return _Admitted(Decoded(record, post), post.id, cost_bytes)


def _tombstone_id(record: Record) -> str:
    try:
        post_id = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise InvalidPost(Reason.INVALID_SCHEMA, "the key of a take-down is not UTF-8") from error
    if not 0 < len(post_id) <= _MAX_ID_CHARACTERS:
        raise InvalidPost(Reason.INVALID_SCHEMA, "the key of a take-down is no post's id")
    return post_id


def _is_given_up(work: Work) -> bool:
    return isinstance(work, DeadLettered) and work.reason is Reason.KILLED_WORKER


def _place(record: Record) -> tuple[Partition, int, int]:
    return record.partition, record.offset, record.epoch
