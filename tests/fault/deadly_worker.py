"""`entityclip` whose encoder kills the process at one text, as a native crash does, and hangs at another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.encoder import Encoder
from worker.cli.main import main

KILLER = "kill this process"
HANG = "hang for ever"

_encode_texts = Encoder.encode_texts


def _deadly(self: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    if KILLER in texts:
        os.kill(os.getpid(), signal.SIGSEGV)
    if HANG in texts:
        threading.Event().wait()
    return _encode_texts(self, texts)


if __name__ == "__main__":
    Encoder.encode_texts = _deadly  # type: ignore[method-assign]
    main()
