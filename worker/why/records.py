"""What the outcome and dead-letter sinks hold about a few posts. Reads each sink once, to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from worker.dead_letters.letter import DeadLetterLine
from worker.dead_letters.reads import read_letters
from worker.errors import ConfigError
from worker.sections import KafkaConfig
from worker.transport.spec import Spec

Outcomes = Mapping[str, list[dict[str, Any]]]
Letters = Mapping[str, list[DeadLetterLine]]
_Place = tuple[str, int, int]


class _Id(msgspec.Struct):
    id: str = ""


def letters_of(posts: Collection[str], where: Spec, config: KafkaConfig) -> Letters:
    """The dead letters of these posts, in the order of the sink.

    A letter belongs to a post if its record's key is the post's id, or if the id stands in its bytes.

    Raises:
        ConfigError: it cannot be read, or holds something else.
        TransientError: the broker is away.
    """
    found: dict[str, list[DeadLetterLine]] = {post: [] for post in posts}
    for letter in read_letters(where, config):
        for post in {letter.record_key, _id_of(letter.raw())} & found.keys():
            found[str(post)].append(letter)
    return found


def outcomes_of(posts: Collection[str], letters: Letters, where: Spec, config: KafkaConfig) -> Outcomes:
    """The outcome records of these posts, in the order of the sink.

    Args:
        letters: of the posts; a dead letter's outcome knows its record only by its place.

    Raises:
        ConfigError: it cannot be read, or holds something else.
        TransientError: the broker is away.
    """
    found: dict[str, list[dict[str, Any]]] = {post: [] for post in posts}
    refused = {
        (letter.topic, letter.partition, letter.offset): post
        for post, those in letters.items()
        for letter in those
    }
    for line, name in _lines(where, config):
        outcome = _parse(line, name)
        post = outcome.get("post_id") or refused.get(_place(outcome))
        if post in found:
            found[post].append(outcome)
    return found


def _lines(where: Spec, config: KafkaConfig) -> Iterator[tuple[bytes, str]]:
    if where.kind == "kafka":
        from worker.transport.kafka.clients import read_topic

        for record in read_topic(config, where.name):
            if record.value is not None:
                yield record.value, f"{where.name}-{record.partition.number}-{record.offset}"
        return
    try:
        with Path(where.name).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):  # otherwise it is just being written
                    yield line, f"{where.name}:{number}"
    except OSError as error:
        raise ConfigError(f"{where.name}: {error.strerror}") from error


def _parse(line: bytes, name: str) -> dict[str, Any]:
    try:
        outcome = msgspec.json.decode(line, type=dict[str, Any])
        if "outcome" in outcome:
            return outcome
    except ValueError as error:
        raise ConfigError(f"{name} is no outcome: {error}") from error
    raise ConfigError(f"{name} is no outcome")


def _place(outcome: Mapping[str, Any]) -> _Place:
    return outcome.get("topic", ""), outcome.get("partition", 0), outcome.get("offset", -1)


def _id_of(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=_Id).id
    except ValueError:  # a dead letter may hold anything
        return ""
