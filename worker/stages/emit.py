"""Emit: matches, dead letters and outcomes, written and acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from worker.dead_letters import dead_letter_message
from worker.transport.base import Message, Sink
from worker.types import DeadLettered, Match, Matched, Outcome
from worker.wire import encode_match, encode_outcome

STAGE = "emit"


class MatchSink(Sink, Protocol):
    """A sink that remembers the keys it has acknowledged."""

    def seen(self, identity: bytes) -> bool:
        """Whether a message of this key was acknowledged, in this run or an earlier one."""


class Emit:
    """The step of the emit stage. One thread only; blocks until the sinks acknowledge.

    A pair that the match sink knows is not written again, whichever of its two posts finds it. After
    a TransientError it must be called again with the same batch, as `Stage` does.

    Args:
        outcomes: one small record a post; None for nowhere.
    """

    def __init__(self, matches: MatchSink, dead_letters: Sink, outcomes: Sink | None = None) -> None:
        self._matches = matches
        self._dead_letters = dead_letters
        self._outcomes = outcomes
        self._begun: Sequence[Outcome] | None = None
        self._decided: list[Outcome] = []

    def __call__(self, batch: Sequence[Outcome]) -> list[Outcome]:
        """Write what each outcome says; returns them with the matches that were written for each."""
        if self._begun is not batch:  # a repeated call must not take its own first try for an earlier run
            self._begun, self._decided = batch, self._without_known(batch)
        decided = self._decided
        _write(self._matches, [_match_message(match) for match in _matches(decided)])
        letters = [outcome for outcome in decided if isinstance(outcome, DeadLettered)]
        _write(self._dead_letters, [dead_letter_message(letter) for letter in letters])
        if self._outcomes is not None:
            _write(self._outcomes, [_outcome_message(outcome) for outcome in decided])
        return decided

    def _without_known(self, batch: Sequence[Outcome]) -> list[Outcome]:
        known: set[str] = set()
        results: list[Outcome] = []
        for outcome in batch:
            if not isinstance(outcome, Matched):
                results.append(outcome)
                continue
            fresh = tuple(match for match in outcome.matches if self._is_fresh(match, known))
            known.update(match.match_id for match in fresh)
            results.append(replace(outcome, matches=fresh))
        return results

    def _is_fresh(self, match: Match, known: set[str]) -> bool:
        return match.match_id not in known and not self._matches.seen(match.match_id.encode())


def _write(sink: Sink, messages: Sequence[Message]) -> None:
    if messages:
        sink.write(messages)


def _matches(outcomes: Sequence[Outcome]) -> list[Match]:
    return [match for outcome in outcomes if isinstance(outcome, Matched) for match in outcome.matches]


def _match_message(match: Match) -> Message:
    return Message(match.match_id.encode(), encode_match(match))


def _outcome_message(outcome: Outcome) -> Message:
    record = outcome.record
    key = f"{record.partition.topic}-{record.partition.number}-{record.offset}"
    return Message(key.encode(), encode_outcome(outcome))
