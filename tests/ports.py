"""Ports of loopback that nobody listens on just now."""

from __future__ import annotations

import os
import secrets
import socket

# Below those that the system gives to outgoing connections, which would take one before its server starts.
_FIRST, _LAST = 12_000, 32_000
_SHARE = 2_000  # of one process of pytest-xdist


def free_port() -> int:
    """One that could be bound a moment ago, from the share of this process of the test run."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + worker * _SHARE % (_LAST - _FIRST)
    while True:
        port = first + secrets.randbelow(_SHARE)
        if _is_free(port):
            return port


def free_ports(count: int) -> list[int]:
    """So many of them, all different."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
