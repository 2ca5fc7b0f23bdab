"""From what the user writes (`file:posts.jsonl`) to a source or a sink."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from worker.dead_letters import as_line, key_of_line
from worker.errors import ConfigError
from worker.transport.files import STDIN, FileSource
from worker.transport.jsonl import JsonlSink
from worker.wire import decode_match

SOURCE = "source"


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
    if path == STDIN and what != SOURCE:
        raise ConfigError(f"the {what} {spec!r} must be a file: what was written is read back from it")
    return path


def open_source(
    spec: str, *, offsets: Path | None, record_bytes: int, leave_out: Collection[Path] = ()
) -> FileSource:
    """Open what posts come from.

    Args:
        leave_out: what the run itself writes, which is no input.

    Raises:
        ConfigError: unknown kind, nothing readable there, or a file that is left out.
    """
    return FileSource(file_path(spec, SOURCE), offsets, record_bytes, leave_out)


def open_match_sink(spec: str) -> JsonlSink:
    """Open where matches go; a match id that stands there is not written again (`seen` asks for it)."""
    return JsonlSink(Path(file_path(spec, "sink")), key_of=_match_key)


def open_dead_letter_sink(spec: str) -> JsonlSink:
    """Open where dead letters go; a letter is written again only where it says something else."""
    path = Path(file_path(spec, "dead-letter sink"))
    return JsonlSink(path, line_of=as_line, key_of=key_of_line, replace=True)


def open_outcome_sink(spec: str) -> JsonlSink:
    """Open where outcomes go, every one; of several of one record the last one counts."""
    return JsonlSink(Path(file_path(spec, "outcome sink")))


def _match_key(line: bytes) -> bytes:
    return decode_match(line).match_id.encode()
