"""A real Redis of the tests' own: Debian's redis-server on a free loopback port, nothing kept on disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.ports import free_port

_START_S = 10.0
_STOP_S = 5.0
_TRIES = 3


class RedisServer:
    """One server; not running until `start`. The port stays the same over restarts, what it held does not.

    Args:
        password: that clients must give; none for an open server.
    """

    def __init__(self, password: str | None = None) -> None:
        self.port = free_port()
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self._is_known = False  # a client may have the port: it must not change any more
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))

    @property
    def url(self) -> str:
        """As a client takes it."""
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers; does nothing when it runs already."""
        if self._process is not None:
            return
        for _ in range(_TRIES):
            self._process = self._launch()
            if self._answers():
                self._is_known = True
                return
            self.kill()
            if not self._is_known:  # somebody else may have taken the port
                self.port = free_port()
        raise RuntimeError(f"redis-server did not start; its log is {self._folder / 'log'}")

    def stop(self) -> None:
        """End it in order and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start an empty one on the same port."""
        self.kill()
        self.start()

    def suspend(self) -> None:
        """Let it hang: connections are taken, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._running().send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client to look inside with."""
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._folder)]
        if self._password:
            command += ["--requirepass", self._password]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _answers(self) -> bool:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._running().poll() is None:
            try:
                with self.client() as client:
                    client.ping()
                return True
            except redis.ConnectionError:
                time.sleep(0.02)
        return False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)  # one that is suspended would not notice SIGTERM
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def need_redis_server() -> None:
    """Skip the test, saying what is missing, where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here: apt-get install redis-server")


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A running, empty server of this test's own."""
    need_redis_server()
    with RedisServer() as server:
        yield server
