"""`entityclip` whose encoder hangs at one text: once, or each time."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.serving.encoder import Encoder
from worker.cli.main import main
from worker.flow import trial

HANG = "hang for ever"
ONCE_VARIABLE = "ENTITYCLIP_TEST_HUNG"  # names a file: where it exists, the encoder has hung before

_encode_texts = Encoder.encode_texts


def _hanging(
    self: Encoder, texts: Sequence[str], explanations: Sequence[str] | None = None
) -> NDArray[np.float32]:
    if HANG in texts and not _has_hung():
        threading.Event().wait()
    return _encode_texts(self, texts, explanations)


def _has_hung() -> bool:
    name = os.environ.get(ONCE_VARIABLE)
    if name is None:
        return False
    before = Path(name).exists()
    Path(name).touch()
    return before


if __name__ == "__main__":
    Encoder.encode_texts = _hanging  # type: ignore[method-assign]
    trial.ENTRY = "tests.deploy.hanging_worker"
    main()
