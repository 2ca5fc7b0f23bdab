"""The process that owns an embedded store: `python -m worker.store.server FOLDER`.

Clients start it (`worker.store.process`); nobody needs to run it by hand. It locks the folder before
it loads the engine (a second loader would damage the first), serves the REST subset on a Unix
socket, and leaves within a second of its last client. Exit status: 0 no clients left or asked to
stop, 69 another process holds the folder, 70 the engine failed, 78 the folder cannot be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from worker.errors import ConfigError, ExitCode, TransientError, WorkerError
from worker.store.app import Activity, build_app
from worker.store.catalog import Catalog
from worker.store.files import FileLock, StoreFiles, replace_json
from worker.store.shard import EngineError
from worker.store.upkeep import OPTIMIZE_AFTER, Upkeep

_TICK_S = 0.3
_LOCK_WAIT_S = 10.0
LOG_BYTES = 1 << 20
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes on Linux and 104 on macOS
_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handling, which ends the process before the folder is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class StoreServer:
    """Serves one open catalog until its last client leaves."""

    def __init__(self, files: StoreFiles, catalog: Catalog, optimize_after: int = OPTIMIZE_AFTER) -> None:
        self._files = files
        self._catalog = catalog
        self._upkeep = Upkeep(optimize_after)
        self._activity = Activity()
        self._broken = False
        self._clients = FileLock(files.clients_lock)  # never closed: held until the process is gone
        config = uvicorn.Config(
            build_app(catalog, self._activity, self._break),
            lifespan="off",
            access_log=False,
            log_config=None,
            ws="none",
            timeout_keep_alive=75,  # longer than a client keeps an idle connection
            timeout_graceful_shutdown=5,
        )
        self._server = _Server(config)

    def run(self) -> bool:
        """Serve; blocks. Whether the engine was sound to the end."""
        listener, path = _listen(self._files.root)
        try:
            asyncio.run(self._serve(listener, path))
        finally:
            path.unlink(missing_ok=True)
        return not self._broken

    def _break(self) -> None:
        self._broken = True
        self._stop()

    def _stop(self) -> None:
        self._server.should_exit = True

    async def _serve(self, listener: socket.socket, path: Path) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        async with asyncio.TaskGroup() as group:  # whichever fails ends the other
            group.create_task(self._server.serve(sockets=[listener]))
            group.create_task(self._watch(path))

    async def _watch(self, path: Path) -> None:
        while not self._server.started:
            await asyncio.sleep(0.01)
        replace_json(self._files.address, {"pid": os.getpid(), "socket": str(path)})
        upkeep = asyncio.create_task(self._run_upkeep())
        while not self._server.should_exit:
            await asyncio.sleep(_TICK_S)
            bound_log(self._files.log)
            if self._clients.try_exclusive() or not path.exists() or not self._files.address.exists():
                self._stop()
            elif upkeep.done():
                await upkeep
                upkeep = asyncio.create_task(self._run_upkeep())
        for collection in self._catalog:
            collection.stop_building()
        await upkeep

    async def _run_upkeep(self) -> None:
        for collection in self._catalog:
            try:
                await asyncio.to_thread(self._upkeep.run, collection, self._activity.idle_s())
            except EngineError as error:
                if error.while_writing:
                    _log.error("the search graphs: the engine failed: %s", error)
                    self._break()
                # else it was deleted meanwhile, or a request has reported it already


def main(arguments: list[str]) -> int:
    """Entry point of the child; the last line on standard error says what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if len(arguments) != 1:
        print("usage: python -m worker.store.server FOLDER", file=sys.stderr)
        return ExitCode.USAGE
    files = StoreFiles(Path(arguments[0]).resolve())
    try:
        return _own(files)
    except WorkerError as error:
        print(str(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"the store in {files.root} cannot be used: {error}", file=sys.stderr)
        return ExitCode.CONFIG


def _own(files: StoreFiles) -> int:
    with FileLock(files.store_lock) as owner:
        if not owner.wait_exclusive(_LOCK_WAIT_S):
            raise TransientError(f"another process holds the store in {files.root}")
        owner.share_with_children()
        catalog = Catalog.open(files)
        sound = StoreServer(files, catalog).run()
        if sound:
            catalog.close()
        files.address.unlink(missing_ok=True)
    return ExitCode.DONE if sound else ExitCode.INTERNAL


def _listen(root: Path) -> tuple[socket.socket, Path]:
    path = socket_path(root)
    path.unlink(missing_ok=True)  # the folder's lock is ours, so whoever bound it is gone
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    return listener, path


def socket_path(root: Path) -> Path:
    """Inside the folder, or, where that is too long for a socket, in a private temporary folder.

    Raises:
        ConfigError: somebody else owns that temporary folder.
    """
    inside = root / "store.sock"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    private = Path(tempfile.gettempdir()) / f"entityclip-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    state = private.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077:
        raise ConfigError(f"{private} is not a private folder of this user: remove it, or set TMPDIR")
    return private / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:24]}.sock"


def bound_log(path: Path) -> None:
    """Keep the log below 1 MiB and one older file of the same size."""
    # Standard error appends to this file, so it can be cut while it is open.
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
