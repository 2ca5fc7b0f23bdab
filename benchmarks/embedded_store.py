"""Waiting for an embedded store's process to be gone, so that its folder can be used or deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.store.files import FileLock, StoreFiles

_WAIT_S = 120.0


@contextmanager
def nobody_serves(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; blocks until the process that serves it has left, up to two minutes.

    Raises:
        TimeoutError: it did not.
    """
    with FileLock(StoreFiles(folder).store_lock) as owner:
        if not owner.wait_exclusive(_WAIT_S):
            raise TimeoutError(f"the process that serves {folder} did not end")
        yield
