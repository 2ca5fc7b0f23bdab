"""A vector store that takes its time over everything, or answers nothing at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from tests.store_proxy import StoreProxy

FOR_EVER_S = 1e6
_LOOK_S = 0.02


class SlowStore(StoreProxy):
    """The embedded store behind HTTP.

    Attributes:
        answer_s: how long each request waits before the store hears of it; may be changed at any time, also
            for those that wait.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answer_s = 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """What the engine says, after a while."""
        begun_s = time.monotonic()
        while time.monotonic() < begun_s + self.answer_s and not self.stopping.is_set():
            time.sleep(_LOOK_S)
        return super().forward(method, path, body)
