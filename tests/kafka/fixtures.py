"""Brokers for tests; `tests/conftest.py` imports them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Broker, BrokerUnavailable


def start_or_skip(broker: Broker) -> Broker:
    """The broker, running; without java, mvn or Maven Central the test is skipped, saying what to install."""
    try:
        broker.start()
    except BrokerUnavailable as missing:
        pytest.skip(str(missing))
    return broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole run; give every test topics and groups of its own, and leave it running."""
    broker = start_or_skip(Broker(tmp_path_factory.mktemp("kafka")))
    yield broker
    broker.kill()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop, freeze or kill."""
    with warnings.catch_warnings():
        # The client library leaves a socket that was refused to the garbage collector.
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        broker = start_or_skip(Broker(tmp_path / "kafka"))
        yield broker
        broker.kill()
        for _ in range(5):  # a collection runs finalisers, which leave garbage of their own
            gc.collect()


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that also listens with TLS and with SASL."""
    broker = start_or_skip(Broker(tmp_path_factory.mktemp("secure-kafka"), secure=True))
    yield broker
    broker.kill()
