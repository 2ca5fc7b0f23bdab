"""Kafka clients from the worker's configuration: opened with bounded waits, closed whatever happened."""

from __future__ import annotations

import logging
import socket
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

Made = TypeVar("Made", KafkaAdminClient, KafkaConsumer, KafkaProducer)

REQUEST_S = 10.0  # that one request may take
_CONNECT_S = 10.0  # that the first connection may take
_PROBE_S = 3.0
_RECONNECT_S = 2.0  # longest pause between attempts to reach a broker that is away

log = structlog.stdlib.get_logger("worker.kafka")

# Below this level the client's own log lines hold whole records.
logging.getLogger("kafka").setLevel(logging.WARNING)


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
        "bootstrap_servers": [server.strip() for server in config.bootstrap_servers.split(",")],
        "client_id": config.client_id,
        "security_protocol": config.security_protocol,
        "request_timeout_ms": int(REQUEST_S * 1000),
        "bootstrap_timeout_ms": int(_CONNECT_S * 1000),
        "reconnect_backoff_max_ms": int(_RECONNECT_S * 1000),
        "metadata_max_age_ms": 60_000,  # how late new partitions are noticed
    }
    if config.security_protocol in ("SSL", "SASL_SSL"):
        settings["ssl_context"] = _ssl_context(config)
    if config.security_protocol.startswith("SASL"):
        settings |= _sasl_settings(config)
    return settings


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


def _sasl_settings(config: KafkaConfig) -> dict[str, Any]:
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


def _ssl_context(config: KafkaConfig) -> ssl.SSLContext:
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
    if isinstance(error, KafkaTimeoutError):
        reasons = [
            _probe(config, server.strip()) or "it does not answer as a Kafka broker does"
            for server in config.bootstrap_servers.split(",")
        ]
        message = f"Kafka at {config.bootstrap_servers} cannot be reached: {'; '.join(reasons)}"
        return (
            ConfigError(message)
            if any("certificate" in each for each in reasons)
            else TransientError(message)
        )
    if isinstance(error, KafkaError):
        return mapped(error, f"connecting to {config.bootstrap_servers}")
    return ConfigError(f"Kafka: {error}")


def _probe(config: KafkaConfig, server: str) -> str:
    """Why a server cannot be connected to; empty if it can."""
    host, _, port = server.rpartition(":")
    host, port = (host, port) if host else (port, "9092")
    if not port.isdecimal():
        return f"{server!r} is not of the form host:port"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PROBE_S) as plain:
            if config.security_protocol in ("SSL", "SASL_SSL"):
                with _ssl_context(config).wrap_socket(plain, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {server} is not trusted: {error.verify_message}"
    except OSError as error:
        return f"{server}: {error.strerror or error}"
    return ""
