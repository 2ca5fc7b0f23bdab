"""Messages to a JSONL file: one a line, durable before `write` returns, none of them twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from worker.errors import ConfigError, TransientError
from worker.transport.base import Message

_DIGEST_BYTES = 16


class JsonlSink:
    """Appends; the file itself says what was written before.

    A line that a killed writer left torn is cut off on opening, and a message whose identity is in the file is
    not written again. Another writer of the same file is refused.

    Args:
        path: the file.
        line_of: a message's line, without its end; by default the message's value.
        identity_of: from a line, what makes it the same as another; None remembers nothing.

    Raises:
        ConfigError: the file cannot be written, is being written, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        *,
        line_of: Callable[[Message], bytes] = lambda message: message.value,
        identity_of: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._path, self._line_of, self._identity_of = path, line_of, identity_of
        self._seen: set[bytes] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"the sink {path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read_back()
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(f"the sink {path} is being written by another process") from error
        except (OSError, ValueError) as error:
            self._file.close()
            raise ConfigError(f"the sink {path} holds something else: {error}") from error

    def seen(self, identity: bytes) -> bool:
        """Whether a message of this identity stands in the file."""
        return _digest(identity) in self._seen

    def write(self, messages: Sequence[Message]) -> None:
        fresh: dict[bytes, bytes] = {}
        for message in messages:
            line = self._line_of(message)
            key = _digest(line if self._identity_of is None else self._identity_of(line))
            if self._identity_of is None:
                key += len(fresh).to_bytes(8, "big")  # alike messages are all written
            if key not in self._seen:
                fresh[key] = line
        if not fresh:
            return
        self._append(b"".join(line + b"\n" for line in fresh.values()))
        if self._identity_of is not None:
            self._seen.update(fresh)

    def close(self) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)  # all or nothing: the same batch is written again
            raise TransientError(f"the sink {self._path} cannot be written: {error.strerror}") from error

    def _read_back(self) -> None:
        self._file.seek(0)
        good = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                if self._identity_of is not None:
                    self._seen.add(_digest(self._identity_of(line)))
        self._file.truncate(good)


def _digest(identity: bytes) -> bytes:
    return hashlib.blake2b(identity, digest_size=_DIGEST_BYTES).digest()
