"""Emit: matches, dead letters and outcomes, written and acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from worker.dead_letters import dead_letter_message
from worker.observe.metrics import Metrics
from worker.stages.times import StageTimes
from worker.transport.base import Message, Sink
from worker.types import DeadLettered, Match, Matched, Outcome
from worker.wire import encode_match, encode_outcome

STAGE = "emit"


class MatchSink(Sink, Protocol):
    """A sink that remembers the keys it has acknowledged."""

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of which a message was acknowledged, in this run or an earlier one."""


class Emit:
    """The step of the emit stage. One thread only; blocks until the sinks acknowledge.

    A pair that the match sink knows is not written again, whichever of its two posts finds it. After
    a TransientError it must be called again with the same batch, as `Stage` does.

    Args:
        outcomes: one small record a post; None for nowhere.
        limit_bytes: of a dead letter; one of a larger record points at it instead. None for no limit.
    """

    def __init__(
        self,
        matches: MatchSink | None,
        dead_letters: Sink,
        outcomes: Sink | None = None,
        *,
        times: StageTimes,
        metrics: Metrics,
        limit_bytes: int | None = None,
    ) -> None:
        self._matches = matches
        self._dead_letters = dead_letters
        self._outcomes = outcomes
        self._times = times
        self._metrics = metrics
        self._limit_bytes = limit_bytes
        self._begun: Sequence[Outcome] | None = None
        self._decided: list[Outcome] = []

    def __call__(self, batch: Sequence[Outcome]) -> list[Outcome]:
        """Write what each outcome says; returns them with the matches that were written for each."""
        if self._begun is not batch:  # a repeated call must not take its own first try for an earlier run
            self._decided = self._without_known(batch)
            self._begun = batch
        decided = self._decided
        if self._matches is not None:
            _write(self._matches, [message for outcome in decided for message in _match_messages(outcome)])
        letters = [outcome for outcome in decided if isinstance(outcome, DeadLettered)]
        messages = [dead_letter_message(letter, limit_bytes=self._limit_bytes) for letter in letters]
        _write(self._dead_letters, messages)
        if self._outcomes is not None:
            _write(self._outcomes, [self._outcome_message(outcome) for outcome in decided])
        return decided

    def _without_known(self, batch: Sequence[Outcome]) -> list[Outcome]:
        keys = [match.match_id.encode() for outcome in batch for match in _matches(outcome)]
        known = self._matches.known(keys) if keys and self._matches is not None else set()
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

    def _outcome_message(self, outcome: Outcome) -> Message:
        record = outcome.record
        key = f"{record.partition.topic}-{record.partition.number}-{record.offset}"
        return Message(key.encode(), encode_outcome(outcome, self._times.of(record)), record.headers)


def _write(sink: Sink, messages: Sequence[Message]) -> None:
    if messages:
        sink.write(messages)


def _matches(outcome: Outcome) -> tuple[Match, ...]:
    return outcome.matches if isinstance(outcome, Matched) else ()


def _match_messages(outcome: Outcome) -> list[Message]:
    """Each match, with the headers of the post that found it."""
    headers = outcome.record.headers
    return [Message(match.match_id.encode(), encode_match(match), headers) for match in _matches(outcome)]
