"""Fetching over TLS: the address is pinned, the name is proved."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fetching import NAME, PATIENCE_S, fetch, refusal
from tests.image_server import ImageServer, picture
from worker.errors import Reason


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as images:
        yield images


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of `NAME`, with its key, in one PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command: install the openssl package to run the tests over TLS")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={NAME}"
    names = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([openssl, *command.split(), *names], check=True, capture_output=True, timeout=PATIENCE_S)
    both = folder / "both.pem"
    both.write_text(key.read_text() + cert.read_text())
    return both


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[ImageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ImageServer(tls=context) as images:
        yield images


@pytest.fixture
def trusted(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_pinned_connection_proves_the_name_that_was_asked_for(
    tls_server: ImageServer, trusted: ssl.SSLContext
) -> None:
    assert fetch(tls_server.url(host=NAME), trusted=trusted) == picture()
    assert tls_server.headers[0]["host"] == f"{NAME}:{tls_server.port}"


def test_certificate_of_another_name_is_unavailable_at_once(
    tls_server: ImageServer, trusted: ssl.SSLContext
) -> None:
    error = refusal(tls_server.url(host="other.example"), trusted=trusted)
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "certificate" in error.detail
    assert tls_server.connections == 1
    assert not tls_server.requests


def test_certificate_of_an_unknown_authority_is_unavailable(tls_server: ImageServer) -> None:
    error = refusal(tls_server.url(host=NAME))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "certificate" in error.detail


def test_redirect_from_https_to_http_is_refused(
    tls_server: ImageServer, server: ImageServer, trusted: ssl.SSLContext
) -> None:
    error = refusal(tls_server.url(f"/redirect?to={server.url()}", host=NAME), trusted=trusted)
    assert error.reason is Reason.IMAGE_REFUSED
    assert "from https to http" in error.detail
    assert server.connections == 0


def test_redirect_from_http_to_https_is_followed(
    tls_server: ImageServer, server: ImageServer, trusted: ssl.SSLContext
) -> None:
    target = tls_server.url(host=NAME)
    assert fetch(server.url(f"/redirect?to={target}"), trusted=trusted) == picture()


def test_tls_where_none_is_spoken_is_unavailable(server: ImageServer) -> None:
    error = refusal(server.url().replace("http:", "https:"))
    assert error.reason is Reason.IMAGE_UNAVAILABLE
    assert "TLS" in error.detail
