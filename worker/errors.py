"""The worker's exceptions.

    WorkerError
    ├ ConfigError            exit 78, before anything connects
    ├ TransientError         a dependency is down: pause, keep polling, retry
    ├ InvalidPost(reason)    bad data: a dead letter, never retried for ever
    └ FatalError             device lost, collection of another model, limit passed: stop, commit nothing
      └ Crash                nobody foresaw it: what was in flight runs alone after the next start

A foreign library's errors are mapped at the one module that imports it.
"""

from __future__ import annotations

from enum import StrEnum


class ExitCode:
    """What a command's exit status means (the same numbers as sysexits.h)."""

    DONE = 0
    USAGE = 2
    UNAVAILABLE = 69
    INTERNAL = 70
    CONFIG = 78
    INTERRUPTED = 130


class Reason(StrEnum):
    """Why a post is a dead letter: metric label, record header and test parameter at once."""

    INVALID_JSON = "invalid_json"  # the record is no JSON object in UTF-8
    INVALID_SCHEMA = "invalid_schema"  # a field is missing, has the wrong type or is out of bounds
    EMPTY_POST = "empty_post"  # neither text nor image
    TEXT_TOO_LARGE = "text_too_large"  # the record or its text is over the configured size
    IMAGE_UNDECODABLE = "image_undecodable"  # truncated, malformed, or not an image at all
    IMAGE_FORMAT = "image_format"  # an image, but of a format that is not accepted
    IMAGE_TOO_LARGE = "image_too_large"  # over the cap on bytes or pixels (decompression bombs)
    IMAGE_TOO_SMALL = "image_too_small"  # under the least side that carries any content
    IMAGE_UNAVAILABLE = "image_unavailable"  # the file or address cannot be read
    IMAGE_REFUSED = "image_refused"  # outside the media root, or an address that must not be fetched
    ENCODING_FAILED = "encoding_failed"  # the model gave no finite, non-zero vector for it
    STORE_REJECTED = "store_rejected"  # the vector store refuses this very point
    KILLED_WORKER = "killed_worker"  # the process died each time this record was alone in flight


class WorkerError(Exception):
    """Root of everything the worker raises on purpose."""

    exit_code = ExitCode.INTERNAL


class ConfigError(WorkerError):
    """The configuration cannot work; nothing was connected yet."""

    exit_code = ExitCode.CONFIG


class TransientError(WorkerError):
    """A dependency is unavailable; the same call may succeed later.

    Args:
        message: one line that names the dependency.
        retry_after_s: seconds the dependency asked to be left alone, if it said so.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidPost(WorkerError):
    """One post is bad; the others are not.

    Args:
        reason: the closed reason.
        detail: one line for a person, without the post's text.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FatalError(WorkerError):
    """The worker must stop, committing nothing more."""


class Crash(FatalError):
    """Something failed that nobody foresaw: one of the records in flight may be what does it."""
