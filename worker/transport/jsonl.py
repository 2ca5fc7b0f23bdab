"""Messages to a JSONL file: one a line, durable before `write` returns, none of them twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from worker.errors import ConfigError, TransientError
from worker.transport.base import Message

_DIGEST_BYTES = 16


class JsonlSink:
    """A `Sink` that appends; the file itself says what was written before.

    A line that a killed writer left torn is cut off on opening. Another writer of the same file is refused.
    `write` blocks until the disk has it; one thread at a time.

    Args:
        path: the file.
        line_of: a message's line, without its end; by default the message's value.
        key_of: the key in a line, ValueError where the line is none of ours; None keeps no keys and
            writes every message.
        replace: with keys, False never writes a key again; True writes it again unless its last line was
            the same.

    Raises:
        ConfigError: the file cannot be written, is being written, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        *,
        line_of: Callable[[Message], bytes] = lambda message: message.value,
        key_of: Callable[[bytes], bytes] | None = None,
        replace: bool = False,
    ) -> None:
        self._path, self._line_of, self._key_of, self._replace = path, line_of, key_of, replace
        self._last: dict[bytes, bytes] = {}  # digest of a key -> of its last line, if that is compared
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
        except OSError as error:
            self._file.close()
            raise ConfigError(f"the sink {path} cannot be used: {error.strerror}") from error
        except ValueError as error:
            self._file.close()
            raise ConfigError(f"the sink {path} holds something else: {error}") from error

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of which a message stands in the file. Does not block."""
        return {key for key in keys if _digest(key) in self._last}

    def write(self, messages: Sequence[Message]) -> None:
        """Append what is new and return once the disk has it.

        Raises:
            TransientError: nothing of it was written.
        """
        lines: list[bytes] = []
        fresh: dict[bytes, bytes] = {}
        for message in messages:
            line = self._line_of(message)
            if self._key_of is not None:
                key, content = _digest(self._key_of(line)), self._content(line)
                before = fresh.get(key, self._last.get(key))
                if before is not None and (before == content or not self._replace):
                    continue
                fresh[key] = content
            lines.append(line + b"\n")
        if lines:
            self._append(b"".join(lines))
            self._last.update(fresh)

    def close(self) -> None:
        """Let go of the file and its lock."""
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
        """Learn the keys; cut off a torn last line, but nothing that another program wrote."""
        self._file.seek(0)
        good, whole = 0, True
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reader:
            for number, line in enumerate(reader, 1):
                if not line.startswith(b"{"):
                    raise ValueError(f"line {number} is no JSON object")
                if not line.endswith(b"\n") and not _is_json(line):
                    break
                good += len(line)
                whole = line.endswith(b"\n")
                self._learn(line.removesuffix(b"\n"), number)
        self._file.truncate(good)
        if not whole:  # only its end is missing
            self._file.write(b"\n")

    def _content(self, line: bytes) -> bytes:
        return _digest(line) if self._replace else b""

    def _learn(self, line: bytes, number: int) -> None:
        if self._key_of is None:
            return
        try:
            self._last[_digest(self._key_of(line))] = self._content(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except ValueError:
        return False
    return True


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
