"""Structured logs on standard error: ids, partitions and offsets, never a post's text."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

Format = Literal["text", "json"]
_LIBRARIES = ("kafka", "httpx", "httpx2", "openai", "qdrant_client", "redis")


def configure_logging(level: str, fmt: Format = "text", *, libraries: bool = True) -> None:
    """Log from this level up, one line an event. Once a process; a later call replaces it.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        fmt: `text` for `name=value` pairs, `json` for one JSON object a line with `timestamp`, `level`,
            `event` and the event's own fields.
        libraries: whether what the client libraries have to say goes the same way, from `warning` up (Kafka's
            at `debug` only);
            otherwise it is left out, for a command that says itself what went wrong.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _first_fields,
            _renderer(fmt),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = _Forward() if libraries else logging.NullHandler()
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = [handler]
        library.propagate = False
        # kafka-python tells each attempt at a broker that is away several times; our own events tell it once
        quiet = logging.CRITICAL if name == "kafka" and number > logging.DEBUG else logging.WARNING
        library.setLevel(max(number, quiet))


class _Forward(logging.Handler):
    """A library's own log lines, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the library's arguments do not fit its own format
            message = str(record.msg)
        structlog.get_logger().log(record.levelno, "library", logger=record.name, message=message)


def _first_fields(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When, how bad and what come first, for whoever reads the lines."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return first | dict(event)


def _renderer(fmt: Format) -> structlog.types.Processor:
    if fmt == "json":
        return structlog.processors.JSONRenderer(default=str)
    return structlog.processors.KeyValueRenderer()
