"""How long an endpoint asks to be left alone: `Retry-After`, and limits that are used up."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_WAIT = re.compile(r"^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$")


def asked_pause_s(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint asks to be left alone, by `Retry-After` or by limits that are used up."""
    found = [
        _seconds_or_date(headers.get("retry-after", "")),
        _milliseconds(headers.get("retry-after-ms", "")),
        *(
            parse_wait_s(headers.get(f"x-ratelimit-reset-{what}", ""))
            for what in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
        ),
    ]
    return max((seconds for seconds in found if seconds is not None), default=None)


def parse_wait_s(text: str) -> float | None:
    """Seconds of `1s`, `6m0s`, `200ms`, `1h2m3.5s` or `7.5`; None for anything else."""
    text = text.strip()
    try:
        return _finite(float(text))
    except ValueError:
        found = _WAIT.match(text) if 0 < len(text) <= 40 else None
    if found is None:
        return None
    days, hours, minutes, seconds, milliseconds = (float(group or 0) for group in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + milliseconds / 1000


def _finite(seconds: float) -> float | None:
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _milliseconds(text: str) -> float | None:
    seconds = parse_wait_s(text)
    return None if seconds is None else seconds / 1000


def _seconds_or_date(text: str) -> float | None:
    if (seconds := parse_wait_s(text)) is not None:
        return seconds
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
