"""Brokers for tests; `tests/conftest.py` imports them."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def sockets_may_be_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For connections that fail: the client library leaves their sockets to the garbage collector."""
    caplog.set_level(logging.CRITICAL, "kafka")  # log records that pytest keeps would keep them from it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <(ssl|socket)", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture
def own_kafka(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Broker]:
    """A broker that the test may stop, freeze or kill."""
    broker = start_or_skip(Broker(tmp_path / "kafka"))
    with sockets_may_be_left(caplog):
        yield broker
        broker.kill()


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that also listens with TLS and with SASL."""
    broker = start_or_skip(Broker(tmp_path_factory.mktemp("secure-kafka"), secure=True))
    yield broker
    broker.kill()
