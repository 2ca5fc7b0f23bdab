"""TLS, SASL and permissions against a real Apache Kafka; what is wrong is said in one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
)

from tests.kafka.broker import USERS, Broker
from tests.kafka.fixtures import sockets_may_be_left
from tests.kafka.helpers import fill, new_topic, next_offsets, numbered, settings, take
from worker.errors import ConfigError, TransientError
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.transport.kafka.clients import check, read_topic
from worker.transport.kafka.connection import admin
from worker.transport.kafka.source import KafkaSource


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails does so sooner."""
    monkeypatch.setattr("worker.transport.kafka.connection._CONNECT_S", 2.0)


def sasl(
    broker: Broker, mechanism: str = "SCRAM-SHA-256", user: str = "worker", **changes: Any
) -> KafkaConfig:
    values = {
        "bootstrap_servers": broker.sasl_bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_username": user,
        "sasl_password": USERS[user],
        **changes,
    }
    return KafkaConfig(**values)


def tls(broker: Broker, **changes: Any) -> KafkaConfig:
    values = {
        "bootstrap_servers": broker.tls_bootstrap,
        "security_protocol": "SSL",
        "ssl_ca_file": str(broker.ca_file),
        **changes,
    }
    return KafkaConfig(**values)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_records_go_through_with_a_password(secure_kafka: Broker, mechanism: str) -> None:
    _go_through(sasl(secure_kafka, mechanism))


def test_records_go_through_tls(secure_kafka: Broker) -> None:
    _go_through(tls(secure_kafka))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_an_error_of_configuration_without_the_password(
    secure_kafka: Broker, mechanism: str
) -> None:
    config = sasl(secure_kafka, mechanism, sasl_password="wrong-secret")
    with pytest.raises(ConfigError, match="SaslAuthenticationFailed") as caught:
        KafkaSource(config, new_topic(), Metrics())
    assert "wrong-secret" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_is_named(
    secure_kafka: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        sockets_may_be_left(caplog),
        pytest.raises(ConfigError, match=r"certificate of localhost:\d+ is not trusted"),
    ):
        check(tls(secure_kafka, ssl_ca_file=None))


def test_a_ca_file_that_is_missing_is_named(tmp_path: Path) -> None:
    config = KafkaConfig(security_protocol="SSL", ssl_ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"ssl_ca_file .*none\.pem"):
        check(config)


@pytest.mark.parametrize("missing", ["sasl_mechanism", "sasl_username", "sasl_password"])
def test_a_setting_of_sasl_that_is_missing_is_named(secure_kafka: Broker, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"kafka\.{missing} is missing"):
        check(msgspec.structs.replace(sasl(secure_kafka), **{missing: None}))


def test_a_clear_client_on_a_tls_port_is_told_what_it_is_not(secure_kafka: Broker) -> None:
    config = KafkaConfig(bootstrap_servers=secure_kafka.tls_bootstrap)
    with pytest.raises(TransientError, match="does not answer as a Kafka broker"):
        check(config)


def test_a_topic_that_must_not_be_seen_is_an_error_of_configuration(secure_kafka: Broker) -> None:
    topic = new_topic()
    fill(settings(secure_kafka), topic, numbered(1))
    _allow(secure_kafka, topic, ACLOperation.ALL)
    with pytest.raises(ConfigError, match="TopicAuthorizationFailed"):
        KafkaSource(sasl(secure_kafka, user="stranger"), topic, Metrics())


def test_a_topic_that_must_be_seen_but_not_read_is_an_error_of_configuration(secure_kafka: Broker) -> None:
    topic = new_topic()
    fill(settings(secure_kafka), topic, numbered(1))
    _allow(secure_kafka, topic, ACLOperation.DESCRIBE)
    source = KafkaSource(sasl(secure_kafka), topic, Metrics())
    with pytest.raises(ConfigError, match="TopicAuthorizationFailed"):
        take(source, 1)
    source.close()


def test_a_topic_that_must_not_be_written_is_an_error_of_configuration(secure_kafka: Broker) -> None:
    topic = new_topic()
    fill(settings(secure_kafka), topic, numbered(1))
    _allow(secure_kafka, topic, ACLOperation.DESCRIBE)
    with pytest.raises(ConfigError, match="TopicAuthorizationFailed"):
        fill(sasl(secure_kafka), topic, numbered(1))


def _allow(broker: Broker, topic: str, operation: ACLOperation) -> None:
    """From now on only the user `worker` may, and only this."""
    pattern = ResourcePattern(ResourceType.TOPIC, topic)
    acl = ACL("User:worker", "*", operation, ACLPermissionType.ALLOW, pattern)
    with admin(settings(broker), "setting permissions") as client:
        client.create_acls([acl])


def _go_through(config: KafkaConfig) -> None:
    topic = new_topic()
    fill(config, topic, numbered(10))
    source = KafkaSource(config, topic, Metrics())
    records = take(source, 10)
    source.commit(next_offsets(records))
    source.close()
    assert len(list(read_topic(config, topic))) == 10
