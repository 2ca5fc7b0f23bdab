"""Starting, finding and letting go of the process that owns an embedded store's folder.

    client:  clients.lock shared ──────────── open ──────────── released (or the process died)
    child:                    store.lock exclusive, serving ... clients.lock exclusive -> flush, exit

Whoever needs the store and finds nobody serving it starts the child, in a session of its own so that
a terminal's Ctrl-C reaches only the workers. A client that comes while the child leaves waits for
`clients.lock`, which the child holds to its end, and then starts a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import worker
from worker.errors import ConfigError, ExitCode, FatalError, TransientError
from worker.store.files import FileLock, StoreFiles

_START_S = 60.0
_LEAVE_S = 1.0
_POLL_S = 0.02
_LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """Where a child serves."""

    pid: int
    socket: Path


class StoreProcess:
    """One client's hold on the child that serves a folder. Thread-safe."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        """Announce this client; does not start the child yet. Blocks while an old child is leaving.

        Raises:
            ConfigError: the folder cannot be used, or holds no store and `create` is off.
            TransientError: an old child did not leave in time.
        """
        self._files = StoreFiles(folder)
        self._threads = threading.Lock()
        _check_folder(self._files, create)
        try:
            self._hold = FileLock(self._files.clients_lock)
        except OSError as error:
            raise ConfigError(f"the store's folder cannot be written: {error}") from error
        if not self._hold.wait_shared(_START_S):
            self._hold.close()
            raise TransientError(f"the store in {folder} is still closing")

    def ensure(self) -> Address:
        """The address of a live child, started here if need be; blocks up to a minute.

        Raises:
            ConfigError: the child says that the folder cannot be used.
            FatalError: the child failed in some other way.
            TransientError: it is not up yet.
        """
        deadline = time.monotonic() + _START_S
        with self._threads, FileLock(self._files.spawn_lock) as spawn:
            if not spawn.wait_exclusive(_START_S):
                raise TransientError(f"the store in {self._files.root} is still being opened")
            return _live(self._files) or _start(self._files, deadline)

    def close(self) -> None:
        """Let go. If nobody else holds the store, wait a second for the child to leave."""
        self._hold.close()
        deadline = time.monotonic() + _LEAVE_S
        with contextlib.suppress(FileNotFoundError):  # the folder was deleted under us: nothing to wait for
            while time.monotonic() < deadline and _is_leaving(self._files):
                time.sleep(_POLL_S)


def read_address(files: StoreFiles) -> Address | None:
    """What the last child wrote down; it may be gone."""
    try:
        content = json.loads(files.address.read_bytes())
        return Address(int(content["pid"]), Path(content["socket"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_folder(files: StoreFiles, create: bool) -> None:
    root = files.root
    try:
        if root.exists() and not root.is_dir():
            raise ConfigError(f"{root} is a file, not a store's folder")
        if not files.is_store():
            if not create:
                raise ConfigError(f"there is no store in {root}: index some posts first")
            if root.is_dir() and any(root.iterdir()):
                raise ConfigError(f"{root} is not empty and holds no store: name another folder")
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the store's folder cannot be used: {error}") from error


def _live(files: StoreFiles) -> Address | None:
    address = read_address(files)
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(address.socket))
        except OSError:
            return None
    return address


def _start(files: StoreFiles, deadline: float) -> Address:
    child, log_start = _spawn(files)
    while time.monotonic() < deadline:
        status = child.poll()
        if status is not None:
            raise _failure(files, status, log_start)
        address = read_address(files)
        if address is not None and address.pid == child.pid:
            # Reaps the child whenever it ends; a zombie would look alive to whoever asks.
            threading.Thread(target=child.wait, name="store-reaper", daemon=True).start()
            return address
        time.sleep(_POLL_S)
    child.kill()
    child.wait()
    raise TransientError(f"the store in {files.root} did not open within {_START_S:.0f} s")


def child_environment() -> dict[str, str]:
    """Ours, in which Python finds this package from any folder."""
    package_root = str(Path(str(worker.__file__)).resolve().parents[1])
    search_path = [package_root, os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in search_path if part)}


def _spawn(files: StoreFiles) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, "-m", "worker.store.server", str(files.root)]
    try:
        with open(files.log, "ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # the child outlives whoever started it: it must not pin that folder
                env=child_environment(),
                start_new_session=True,
            )
            return child, log.tell()
    except OSError as error:
        raise ConfigError(f"the store's process cannot be started: {error}") from error


def _failure(files: StoreFiles, status: int, log_start: int) -> Exception:
    message = f"the store did not open: {_last_line(files.log, log_start) or f'exit status {status}'}"
    if status == ExitCode.CONFIG:
        return ConfigError(message)
    if status == ExitCode.UNAVAILABLE or status < 0:
        return TransientError(message)
    return FatalError(f"{message} (see {files.log})")


def _last_line(log: Path, start: int) -> str:
    with open(log, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start if start <= end else 0, end - _LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _is_leaving(files: StoreFiles) -> bool:
    """Whether the child still runs, and no client is left to keep it."""
    if not files.root.is_dir():
        return False
    with FileLock(files.store_lock) as owner, FileLock(files.clients_lock) as clients:
        if owner.try_shared():
            return False  # no child
        # Exclusive: nobody is left and the child has not noticed. Not even shared: it is on its way out.
        return clients.try_exclusive() or not clients.try_shared()
