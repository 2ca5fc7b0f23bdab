"""What the client's errors mean to the worker."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from kafka import errors as kafka_errors

from worker.errors import ConfigError, FatalError, TransientError
from worker.transport.kafka.errors import TooLarge, asks_for_poll, is_unreadable, mapped

_ALL: list[Any] = [
    kind
    for _, kind in inspect.getmembers(kafka_errors, inspect.isclass)
    if issubclass(kind, kafka_errors.KafkaError)
]


def _instance(kind: type[kafka_errors.KafkaError]) -> kafka_errors.KafkaError:
    return kind({}) if kind is kafka_errors.LogTruncationError else kind()


@pytest.mark.parametrize("kind", _ALL, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_has_a_meaning(kind: type[kafka_errors.KafkaError]) -> None:
    meaning = mapped(_instance(kind), "reading")
    assert isinstance(meaning, ConfigError | FatalError | TransientError)
    assert kind.__name__ in str(meaning)


@pytest.mark.parametrize("kind", [kind for kind in _ALL if kind.retriable], ids=lambda kind: kind.__name__)
def test_what_the_client_calls_retriable_is_transient(kind: type[kafka_errors.KafkaError]) -> None:
    assert isinstance(mapped(_instance(kind), "reading"), TransientError)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in _ALL if "Authorization" in kind.__name__ or "Sasl" in kind.__name__],
    ids=lambda kind: kind.__name__,
)
def test_credentials_and_permissions_are_errors_of_configuration(
    kind: type[kafka_errors.KafkaError],
) -> None:
    assert isinstance(mapped(_instance(kind), "reading"), ConfigError)


def test_a_message_has_one_line() -> None:
    error = kafka_errors.KafkaTimeoutError("first\nsecond\t third")
    assert str(mapped(error, "committing")) == "Kafka: committing: KafkaTimeoutError: first second third"


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"", 0, 1, ""), kafka_errors.CorruptRecordError()]
)
def test_what_comes_from_a_records_bytes_is_unreadable(error: Exception) -> None:
    assert is_unreadable(error)


def test_a_broker_that_is_away_is_not_unreadable() -> None:
    assert not is_unreadable(kafka_errors.KafkaConnectionError())


@pytest.mark.parametrize("error", [kafka_errors.CommitFailedError(), kafka_errors.RebalanceInProgressError()])
def test_a_commit_that_a_rebalance_stopped_asks_for_a_poll(error: Exception) -> None:
    assert asks_for_poll(error)


def test_too_large_says_how_many_and_how_large() -> None:
    error = TooLarge("matches", [3, 5], [10, 2000])
    assert error.indices == (3, 5)
    assert str(error) == "2 messages are too large for topic matches: up to 2000 bytes"
