"""From what the user writes (`file:posts.jsonl`) to a source or a sink."""

from __future__ import annotations

from pathlib import Path

from worker.dead_letters import as_line
from worker.errors import ConfigError
from worker.transport.files import FileSource
from worker.transport.jsonl import JsonlSink
from worker.wire import decode_match


def file_path(spec: str, what: str) -> str:
    """The path of a `file:` specification.

    Raises:
        ConfigError: empty, or of a kind that this worker does not speak.
    """
    scheme, separator, path = spec.partition(":")
    if not separator or scheme != "file":
        raise ConfigError(f"the {what} {spec!r} is not of a known kind: write file:PATH")
    if not path:
        raise ConfigError(f"the {what} {spec!r} names no path")
    return path


def open_source(spec: str, *, offsets: Path | None, record_bytes: int) -> FileSource:
    """Open what posts come from.

    Raises:
        ConfigError: unknown kind, or nothing readable there.
    """
    return FileSource(file_path(spec, "source"), offsets, record_bytes)


def open_match_sink(spec: str) -> JsonlSink:
    """Open where matches go; a match id that stands there is not written again."""
    return JsonlSink(Path(file_path(spec, "sink")), identity_of=_match_identity)


def open_dead_letter_sink(spec: str) -> JsonlSink:
    """Open where dead letters go; an identical letter is not written again."""
    return JsonlSink(Path(file_path(spec, "dead-letter sink")), line_of=as_line, identity_of=bytes.strip)


def open_outcome_sink(spec: str) -> JsonlSink:
    """Open where outcomes go; of several of one record the last one counts."""
    return JsonlSink(Path(file_path(spec, "outcome sink")))


def _match_identity(line: bytes) -> bytes:
    return decode_match(line).match_id.encode()
