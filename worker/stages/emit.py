"""Emit: matches, dead letters and outcomes, written and acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from worker.dead_letters import dead_letter_message, message_bytes
from worker.observe.metrics import Metrics
from worker.stages.times import StageTimes
from worker.transport.base import Headers, Message, Sink
from worker.types import DeadLettered, Match, Matched, Outcome
from worker.wire import encode_match, encode_outcome

STAGE = "emit"


class MatchSink(Sink, Protocol):
    """A sink that remembers the keys it has acknowledged."""

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of which a message was acknowledged, in this run or an earlier one."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Bytes of one message of each sink, as `message_bytes` counts them; None for no limit.

    A post chooses what its messages hold, so one that a sink refuses must not end the worker: a dead letter
    points at its record, a match or an outcome leaves out what is too large.
    """

    matches: int | None = None
    dead_letters: int | None = None
    outcomes: int | None = None


class Emit:
    """The step of the emit stage. One thread only; blocks until the sinks acknowledge.

    A pair that the match sink knows is not written again, whichever of its two posts finds it. After
    a TransientError it must be called again with the same batch, as `Stage` does; what was acknowledged
    is then not written again.

    Args:
        matches: None writes none.
        outcomes: one small record a post; None for nowhere.
    """

    def __init__(
        self,
        matches: MatchSink | None,
        dead_letters: Sink,
        outcomes: Sink | None = None,
        *,
        times: StageTimes,
        metrics: Metrics,
        limits: SizeLimits | None = None,
    ) -> None:
        self._matches = matches
        self._dead_letters = dead_letters
        self._outcomes = outcomes
        self._times = times
        self._metrics = metrics
        self._limits = limits or SizeLimits()
        self._begun: Sequence[Outcome] | None = None
        self._decided: list[Outcome] = []
        self._written: set[str] = set()  # the sinks that have acknowledged this batch

    def __call__(self, batch: Sequence[Outcome]) -> list[Outcome]:
        """Write what each outcome says; returns them with the matches that were written for each."""
        if self._begun is not batch:  # a repeated call must not take its own first try for an earlier run
            self._decided = self._without_known(batch)
            self._begun = batch
            self._written.clear()
        decided = self._decided
        if self._matches is not None:
            self._write("matches", self._matches, self._match_messages(decided))
        self._write("dead letters", self._dead_letters, self._letter_messages(decided))
        if self._outcomes is not None:
            self._write("outcomes", self._outcomes, map(self._outcome_message, decided))
        return decided

    def _write(self, name: str, sink: Sink, messages: Iterable[Message]) -> None:
        if name not in self._written:
            if made := list(messages):
                sink.write(made)
            self._written.add(name)

    def _without_known(self, batch: Sequence[Outcome]) -> list[Outcome]:
        if self._matches is None:
            return [replace(item, matches=()) if isinstance(item, Matched) else item for item in batch]
        keys = [match.match_id.encode() for outcome in batch for match in _matches(outcome)]
        known = self._matches.known(keys) if keys else set()
        before = len(keys)
        results: list[Outcome] = []
        for outcome in batch:
            if not isinstance(outcome, Matched):
                results.append(outcome)
                continue
            fresh = tuple(match for match in outcome.matches if match.match_id.encode() not in known)
            known.update(match.match_id.encode() for match in fresh)
            results.append(replace(outcome, matches=fresh))
        self._metrics.repeats.inc(before - sum(len(_matches(outcome)) for outcome in results))
        return results

    def _match_messages(self, outcomes: Sequence[Outcome]) -> Iterator[Message]:
        """Each match, with the headers of the post that found it."""
        for outcome in outcomes:
            for match in _matches(outcome):
                yield match_message(match, outcome.record.headers, self._limits.matches)

    def _letter_messages(self, outcomes: Sequence[Outcome]) -> Iterator[Message]:
        for outcome in outcomes:
            if isinstance(outcome, DeadLettered):
                yield dead_letter_message(outcome, limit_bytes=self._limits.dead_letters)

    def _outcome_message(self, outcome: Outcome) -> Message:
        record = outcome.record
        key = f"{record.partition.topic}-{record.partition.number}-{record.offset}"
        message = Message(key.encode(), encode_outcome(outcome, self._times.of(record)), record.headers)
        return _fitting((message, replace(message, headers=())), self._limits.outcomes)


def _matches(outcome: Outcome) -> tuple[Match, ...]:
    return outcome.matches if isinstance(outcome, Matched) else ()


def match_message(match: Match, headers: Headers, limit_bytes: int | None) -> Message:
    """A match as it is sent; above the limit without what may be long."""
    return _fitting(_match_forms(match, headers), limit_bytes)


def _match_forms(match: Match, headers: Headers) -> Iterator[Message]:
    """A match as a message: as it should be, without the headers, and without what else may be long."""
    message = Message(match.match_id.encode(), encode_match(match), headers)
    yield message
    yield replace(message, headers=())
    yield Message(message.key, encode_match(replace(match, explanation="", entities=())))


def _fitting(forms: Iterable[Message], limit_bytes: int | None) -> Message:
    """The first form that fits, or else the last one."""
    for form in forms:
        if limit_bytes is None or message_bytes(form) <= limit_bytes:
            break
    return form
