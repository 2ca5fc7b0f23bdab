"""Why a broker cannot be reached: a plain connection that says what the library does not.

The library tries until its time is up and then says only that. It also loses the broker's answer to a wrong
password, which comes together with the end of the connection.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from kafka.errors import KafkaError, NoError, SaslAuthenticationFailedError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from worker.errors import ConfigError, TransientError
from worker.transport.kafka.errors import describe

_PROBE_S = 5.0
_DEFAULT_PORT = "9092"


def probe(server: str, context: ssl.SSLContext | None, sasl: dict[str, Any]) -> None:
    """Connect, shake hands and log in; blocks for some seconds at most.

    Args:
        server: as `host:port`.
        context: for TLS; None for a clear connection.
        sasl: the library's settings of SASL; empty for none.

    Raises:
        ConfigError: the certificate, the user or the password is refused, or `server` names no server.
        TransientError: nobody answers.
    """
    host, _, port = server.rpartition(":")
    host, port = (host.strip("[]"), port) if host else (port, _DEFAULT_PORT)
    if not port.isdecimal():
        raise ConfigError(f"{server!r} is not of the form host:port")
    try:
        with socket.create_connection((host, int(port)), _PROBE_S) as clear:
            if context is None:
                _log_in(clear, host, sasl)
            else:
                with context.wrap_socket(clear, server_hostname=host) as encrypted:
                    _log_in(encrypted, host, sasl)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"the certificate of {server} is not trusted: {error.verify_message}") from error
    except KafkaError as error:
        raise ConfigError(f"{server}: {describe(error)}") from error
    except (OSError, OverflowError) as error:
        raise TransientError(f"{server}: {getattr(error, 'strerror', None) or error}") from error
    raise TransientError(f"{server} does not answer as a Kafka broker does")


def _log_in(connection: socket.socket, host: str, sasl: dict[str, Any]) -> None:
    if not sasl:
        return
    parser = KafkaProtocol(client_id=sasl.get("client_id", ""))
    name = sasl["sasl_mechanism"]
    handshake = _ask(connection, parser, SaslHandshakeRequest(version=1, mechanism=name))
    _raise_for(handshake.error_code, f"the broker offers {', '.join(handshake.mechanisms)}")
    mechanism = get_sasl_mechanism(name)(host=host, **sasl)
    while not mechanism.is_done():
        request = SaslAuthenticateRequest(version=0, auth_bytes=mechanism.auth_bytes())
        answer = _ask(connection, parser, request)
        _raise_for(answer.error_code, answer.error_message)
        mechanism.receive(answer.auth_bytes)
    if not mechanism.is_authenticated():
        raise SaslAuthenticationFailedError(name)


def _ask(connection: socket.socket, parser: KafkaProtocol, request: Any) -> Any:
    parser.send_request(request)
    connection.sendall(parser.send_bytes())
    while True:
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("the connection was closed during the login")
        if responses := parser.receive_bytes(data):
            return responses[0][1]


def _raise_for(code: int, message: str) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error(message)
