"""Records from the lines of a file or of standard input."""

from __future__ import annotations

import hashlib
import os
import select
import sys
import time
from pathlib import Path

from worker.errors import FatalError
from worker.transport.reader import BATCH_BYTES, BATCH_RECORDS, Place, Read

_READ_BYTES = 1 << 18
_FINGERPRINT_BYTES = 4096


class LineReader:
    """Never has more of a file in memory than one line up to the cap and one read.

    A line's number, from 0, is its offset; blank lines are counted and not delivered. A longer line than the
    cap is delivered cut to one byte more, which decoding refuses.

    Args:
        path: the file, opened at the first read; None is standard input, which cannot be resumed.
        record_bytes: the cap.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path | None, record_bytes: int) -> None:
        self._path, self._cap = path, record_bytes
        self._descriptor: int | None = None
        self._buffer = bytearray()
        self._line, self._position = 0, 0  # the number and the byte at which the buffer starts
        self._overlong = 0  # bytes of the present line that were thrown away
        self._ended = False
        self.fingerprint = "" if path is None else _fingerprint(path)

    def seek(self, place: Place) -> bool:
        if self._path is None or not self.fingerprint:
            return False
        with self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(place.position - 1, 0))
            if place.position > size or (place.position < size and place.position and file.read(1) != b"\n"):
                return False
        self._line, self._position = place.next_offset, place.position
        return True

    def read(self, timeout_s: float) -> list[Read]:
        deadline = time.monotonic() + timeout_s
        records: list[Read] = []
        size = 0
        while len(records) < BATCH_RECORDS and size < BATCH_BYTES:
            line = self._take_line()
            if line is not None:
                if value := line if len(line) > self._cap else line.strip():
                    records.append(Read(self._line - 1, self._position, value))
                    size += len(value)
                continue
            left_s = deadline - time.monotonic()
            if self._ended or not self._fill(0.0 if records else max(left_s, 0.0)) or left_s < 0:
                break
        return records

    def at_end(self) -> bool:
        return self._ended and not self._buffer

    def close(self) -> None:
        self._release()
        self._ended = True
        self._buffer.clear()

    def _release(self) -> None:
        if self._descriptor is not None and self._path is not None:  # standard input is not ours to close
            os.close(self._descriptor)
        self._descriptor = None

    def _fill(self, timeout_s: float) -> bool:
        """Read some more; False when nothing came in time."""
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            if not poll.poll(timeout_s * 1000):
                return False
            chunk = os.read(self._descriptor, _READ_BYTES)
        except OSError as error:
            name = self._path or "standard input"
            raise FatalError(f"the source {name} broke off: {error.strerror}") from error
        self._buffer += chunk
        if not chunk:
            self._ended = True
            self._release()
        return True

    def _open(self) -> int:
        if self._path is None:
            return sys.stdin.fileno()
        # without O_NONBLOCK a named pipe that nobody writes to would block here, deaf to every signal
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        if self._position:
            os.lseek(descriptor, self._position, os.SEEK_SET)
        return descriptor

    def _take_line(self) -> bytes | None:
        """The next whole line without its end, cut to one byte over the cap; None if it is not there yet."""
        end = self._buffer.find(b"\n")
        if end < 0 and not (self._ended and self._buffer):
            surplus = len(self._buffer) - (self._cap + 1)
            if surplus > 0:  # keep the beginning only, count the rest
                del self._buffer[self._cap + 1 :]
                self._overlong += surplus
            return None
        length = len(self._buffer) if end < 0 else end
        line = bytes(self._buffer[: min(length, self._cap + 1)])
        consumed = length + (end >= 0)
        del self._buffer[:consumed]
        self._position += consumed + self._overlong
        self._overlong = 0
        self._line += 1
        return line


def _fingerprint(path: Path) -> str:
    """Of the file's beginning, so that a file that grew is the same one. A pipe has none."""
    if not path.is_file():
        path.stat()  # OSError where there is nothing at all
        return ""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_FINGERPRINT_BYTES)).hexdigest()[:16]
