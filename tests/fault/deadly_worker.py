"""`entityclip` whose encoder kills the process at one text, as a native crash does, and hangs at another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.serving.encoder import Encoder
from worker import windows
from worker.cli.main import main
from worker.flow import trial
from worker.stages import prepare

KILLER = "kill this process"
HANG = "hang for ever"
RAISER = "raise what nobody foresaw"

_encode_texts = Encoder.encode_texts
_text_windows = windows.text_windows


def _deadly(
    self: Encoder, texts: Sequence[str], explanations: Sequence[str] | None = None
) -> NDArray[np.float32]:
    if KILLER in texts:
        os.kill(os.getpid(), signal.SIGSEGV)
    if HANG in texts:
        threading.Event().wait()
    return _encode_texts(self, texts, explanations)


def _raising(text: str, fits: Callable[[str], bool], limit: int = windows.MAX_WINDOWS) -> tuple[str, ...]:
    if text == RAISER:
        raise KeyError("a defect")
    return _text_windows(text, fits, limit)


if __name__ == "__main__":
    Encoder.encode_texts = _deadly  # type: ignore[method-assign]
    trial.ENTRY = "tests.fault.deadly_worker"
    prepare.text_windows = _raising  # type: ignore[attr-defined]
    main()
