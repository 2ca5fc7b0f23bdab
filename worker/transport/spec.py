"""What the user writes for a source or a sink: `file:posts.jsonl`, `kafka:news.posts`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from worker.errors import ConfigError
from worker.transport.files import STDIN

SOURCE = "source"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Spec:
    """A place by kind and name: a path, or a topic."""

    kind: Literal["file", "kafka"]
    name: str


def parse_spec(spec: str, what: str) -> Spec:
    """Read a specification.

    Args:
        what: how messages call it: `source`, `sink` …

    Raises:
        ConfigError: empty, of no known kind, or no name that can be one.
    """
    kind, separator, name = spec.partition(":")
    if separator and kind == "file":
        return Spec("file", _checked_path(spec, name, what))
    if separator and kind == "kafka":
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise ConfigError(f"the {what} {spec!r} names no topic: letters, digits, dots, - and _")
        return Spec("kafka", name)
    raise ConfigError(f"the {what} {spec!r} is not of a known kind: write file:PATH or kafka:TOPIC")


def _checked_path(spec: str, path: str, what: str) -> str:
    if not path:
        raise ConfigError(f"the {what} {spec!r} names no path")
    if path == STDIN and what != SOURCE:
        raise ConfigError(f"the {what} {spec!r} must be a file: what was written is read back from it")
    return path
