"""The client's settings from ours, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.sections import KafkaConfig
from worker.transport.kafka.connection import connection_settings


def test_servers_are_split_at_commas() -> None:
    settings = connection_settings(KafkaConfig(bootstrap_servers="a:1, b:2"))
    assert settings["bootstrap_servers"] == ["a:1", "b:2"]


def test_a_host_name_that_must_not_be_checked_is_not() -> None:
    config = KafkaConfig(security_protocol="SSL", ssl_check_hostname=False)
    assert connection_settings(config)["ssl_context"].check_hostname is False


def test_a_clear_connection_carries_no_credentials() -> None:
    settings = connection_settings(KafkaConfig(sasl_username="u", sasl_password="p"))
    assert not {name for name in settings if name.startswith(("sasl", "ssl"))}


def test_a_client_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = KafkaConfig(security_protocol="SSL", ssl_cert_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"ssl_cert_file .*none\.pem"):
        connection_settings(config)
