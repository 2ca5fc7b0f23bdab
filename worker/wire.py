"""What goes out, as JSON: matches and outcomes (`schemas/match.json`, `schemas/outcome.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from worker.types import DeadLettered, Match, Matched, Outcome, Unmatched

_encoder = msgspec.json.Encoder()


def encode_match(match: Match) -> bytes:
    """One match, UTF-8 JSON on one line."""
    return _encoder.encode(match)


def encode_outcome(outcome: Outcome, stage_s: Mapping[str, float] | None = None) -> bytes:
    """One small record a post: which outcome, how many points and matches, when.

    Args:
        stage_s: seconds that each stage took for its batch.
    """
    record = outcome.record
    common = {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "finished_at": datetime.now(UTC),
        "stage_ms": {stage: round(seconds * 1000, 1) for stage, seconds in (stage_s or {}).items()},
    }
    detail: dict[str, object]
    match outcome:
        case Matched() | Unmatched():
            matches = len(outcome.matches) if isinstance(outcome, Matched) else 0
            detail = {
                "outcome": "matched" if isinstance(outcome, Matched) else "unmatched",
                "post_id": outcome.post_id,
                "points": outcome.points,
                "matches": matches,
                "explanation_status": outcome.explanation_status,
                "taken_down": isinstance(outcome, Unmatched) and outcome.taken_down,
            }
        case DeadLettered(reason=reason, stage=stage):
            detail = {"outcome": "dead_lettered", "reason": reason, "stage": stage, "points": 0, "matches": 0}
    return _encoder.encode(detail | common)


def decode_match(line: bytes) -> Match:
    """Read a match back.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(line, type=Match)
