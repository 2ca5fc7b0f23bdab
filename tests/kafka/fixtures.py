"""Brokers for tests; `tests/conftest.py` imports them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Broker, BrokerUnavailable

_LEFT_SOCKET = "Exception ignored in. <socket.socket"
_UNRAISABLE = "pytest.PytestUnraisableExceptionWarning"


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
def own_kafka(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that the test may stop, freeze or kill."""
    # The client library leaves a socket that was refused to the garbage collector.
    request.node.add_marker(pytest.mark.filterwarnings(f"ignore:{_LEFT_SOCKET}:{_UNRAISABLE}"))
    broker = start_or_skip(Broker(tmp_path / "kafka"))
    yield broker
    broker.kill()
    gc.collect()


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that also listens with TLS and with SASL."""
    broker = start_or_skip(Broker(tmp_path_factory.mktemp("secure-kafka"), secure=True))
    yield broker
    broker.kill()
