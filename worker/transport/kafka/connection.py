"""Kafka clients from the worker's configuration: opened with bounded waits, closed whatever happened."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from worker.errors import ConfigError, TransientError, WorkerError
from worker.sections import KafkaConfig
from worker.transport.kafka.errors import describe, mapped
from worker.transport.kafka.probe import probe

Made = TypeVar("Made", KafkaAdminClient, KafkaConsumer, KafkaProducer)

REQUEST_S = 10.0  # that one request may take
_CONNECT_S = 10.0  # that the first connection may take
_RECONNECT_S = 2.0  # longest pause between attempts to reach a broker that is away

log = structlog.stdlib.get_logger("worker.kafka")

# The library's own lines: below this level they hold whole records, and they are for whoever configures
# the standard logging; what matters of them is in our errors.
logging.getLogger("kafka").setLevel(logging.WARNING)
logging.getLogger("kafka").addHandler(logging.NullHandler())


class Client(Generic[Made]):
    """An open client of the library.

    The library leaves its connections and its thread behind where opening or closing it fails; this does
    not.

    Args:
        factory: `KafkaConsumer`, `KafkaProducer` or `KafkaAdminClient`.
        settings: its keyword arguments beside those of the connection.

    Raises:
        ConfigError: credentials, certificates or settings that cannot work.
        TransientError: no broker answered within 10 s.
    """

    def __init__(self, factory: Callable[..., Made], config: KafkaConfig, **settings: Any) -> None:
        self._connections: list[KafkaNetClient] = []
        kwargs = {**connection_settings(config), "kafka_client": self._connect, **settings}
        try:
            self.api: Made = factory(**kwargs)
        except (KafkaError, ValueError, RuntimeError) as error:
            self.drop()
            raise _opening_failed(config, error) from error

    def drop(self) -> None:
        """Let go of the connections and the thread, without a word to the broker; never raises."""
        for connection in self._connections:
            try:
                connection.close()
            except Exception as error:  # a client whose thread died raises anything; it is given up anyway
                log.info("connections not closed in order", error=describe(error))
        self._connections.clear()

    def _connect(self, **settings: Any) -> KafkaNetClient:
        connection = KafkaNetClient(**settings)
        self._connections.append(connection)
        return connection


def connection_settings(config: KafkaConfig) -> dict[str, Any]:
    """The keyword arguments that every client of the library takes.

    Raises:
        ConfigError: a file of the TLS settings cannot be used, or SASL lacks a setting.
    """
    settings: dict[str, Any] = {
        "bootstrap_servers": _servers(config),
        "client_id": config.client_id,
        "security_protocol": config.security_protocol,
        "request_timeout_ms": int(REQUEST_S * 1000),
        "bootstrap_timeout_ms": int(_CONNECT_S * 1000),
        "reconnect_backoff_max_ms": int(_RECONNECT_S * 1000),
        "metadata_max_age_ms": 60_000,  # how late new partitions are noticed
    }
    if context := _tls(config):
        settings["ssl_context"] = context
    return settings | _sasl(config)


@contextmanager
def admin(config: KafkaConfig, doing: str) -> Iterator[KafkaAdminClient]:
    """An admin client for a few requests; its errors inside the context are mapped.

    Args:
        doing: what is being done, for messages.
    """
    client = Client(KafkaAdminClient, config)
    try:
        yield client.api
    except KafkaError as error:
        raise mapped(error, doing) from error
    finally:
        client.drop()


def _sasl(config: KafkaConfig) -> dict[str, Any]:
    if not config.security_protocol.startswith("SASL"):
        return {}
    values = {
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": config.sasl_username,
        "sasl_plain_password": config.sasl_password,
    }
    for name, value in values.items():
        if value is None:
            field = name.replace("plain_", "")
            raise ConfigError(f"kafka.{field} is missing; {config.security_protocol} needs it")
    return values


def _tls(config: KafkaConfig) -> ssl.SSLContext | None:
    if not config.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ssl_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"kafka.ssl_ca_file {config.ssl_ca_file} cannot be used: {error}") from error
    context.check_hostname = config.ssl_check_hostname
    if config.ssl_cert_file:
        try:
            context.load_cert_chain(
                config.ssl_cert_file, config.ssl_key_file, lambda: config.ssl_key_password or ""
            )
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"kafka.ssl_cert_file {config.ssl_cert_file} cannot be used: {error}"
            ) from error
    return context


def _opening_failed(config: KafkaConfig, error: Exception) -> WorkerError:
    """The library says only that it took too long; a connection of our own says why."""
    if not isinstance(error, KafkaError):
        return ConfigError(f"Kafka: {error}")
    if not isinstance(error, KafkaTimeoutError):
        return mapped(error, f"connecting to {config.bootstrap_servers}")
    kind: type[WorkerError] = TransientError
    reasons = []
    for server in _servers(config):
        try:
            probe(server, _tls(config), _sasl(config))
        except WorkerError as reason:
            reasons.append(str(reason))
            kind = ConfigError if isinstance(reason, ConfigError) else kind
    return kind(f"Kafka at {config.bootstrap_servers} cannot be reached: {'; '.join(reasons)}")


def _servers(config: KafkaConfig) -> list[str]:
    return [server.strip() for server in config.bootstrap_servers.split(",")]
