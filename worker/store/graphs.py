"""Building a shard's search graphs without stalling anybody: on a copy, in a process of its own.

Called on a thread that may block for as long as a build takes, one at a time for a shard.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from worker.store.process import child_environment
from worker.store.shard import EngineError, JournalFull, Shard

_POLL_S = 0.05
_ROOM = 3  # times the shard's size: the copy, the graphs, and the segments they replace
_log = logging.getLogger(__name__)


class BuildFailed(Exception):
    """The graphs were not built; the shard is served as before."""


def build(shard: Shard, stop: threading.Event) -> None:
    """Build, and serve the shard with graphs in place of the one without.

    Blocks until that is done; ends promptly when `stop` is set.

    Raises:
        Stopped: `stop` was set; the shard is served as before.
        BuildFailed: no room, the builder died, or too much was written meanwhile: try again later.
        EngineError: it is unknown which shard is current: the process must end.
    """
    try:
        _check_room(shard)
        _build(shard, stop)
    except (OSError, JournalFull) as error:
        raise BuildFailed(str(error)) from error
    except EngineError as error:
        if error.while_writing:
            raise
        raise BuildFailed(str(error)) from error


def _check_room(shard: Shard) -> None:
    needed, free = _ROOM * shard.bytes_on_disk(), shutil.disk_usage(shard.collection).free
    if free < needed:
        raise BuildFailed(f"it takes {needed >> 20} MiB on the disk, and {free >> 20} MiB are free")


def _build(shard: Shard, stop: threading.Event) -> None:
    started = time.monotonic()
    target = shard.next_folder()
    try:
        shard.begin_copy(target, stop)
        copied = time.monotonic()
        _run_builder(shard, target, stop)
        built = time.monotonic()
        shard.adopt(target, stop)
    finally:
        shard.end_copy()
        shard.discard(target)
    _log.info(
        "search graphs: copied in %.1f s, built in %.1f s, taken over in %.1f s",
        copied - started,
        built - copied,
        time.monotonic() - built,
    )


def _run_builder(shard: Shard, target: Path, stop: threading.Event) -> None:
    with tempfile.TemporaryFile() as said:
        builder = _start(target, said)
        try:
            while builder.poll() is None:
                shard.check_copy(stop)
                stop.wait(_POLL_S)
        finally:
            builder.kill()
            builder.wait()
        if builder.returncode:
            raise BuildFailed(f"the builder ended with {builder.returncode}: {_last_line(said)}")


def _start(target: Path, said: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker.store.optimize", str(target), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        cwd="/",
        env=child_environment(),
        close_fds=False,  # it holds the folder's lock too: see FileLock.share_with_children
    )


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no message"
