"""What goes out, as JSON: matches and outcomes (`schemas/match.json`, `schemas/outcome.json`)."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from worker.types import DeadLettered, Match, Matched, Outcome, Unmatched

_encoder = msgspec.json.Encoder()


def encode_match(match: Match) -> bytes:
    """One match, UTF-8 JSON on one line."""
    return _encoder.encode(match)


def encode_outcome(outcome: Outcome) -> bytes:
    """One small record a post: which outcome, how many points and matches, when."""
    record = outcome.record
    common = {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "finished_at": datetime.now(UTC),
    }
    match outcome:
        case Matched(post_id=post_id, matches=matches, points=points):
            detail = {"outcome": "matched", "post_id": post_id, "points": points, "matches": len(matches)}
        case Unmatched(post_id=post_id, points=points):
            detail = {"outcome": "unmatched", "post_id": post_id, "points": points, "matches": 0}
        case DeadLettered(reason=reason, stage=stage):
            detail = {"outcome": "dead_lettered", "reason": reason, "stage": stage, "points": 0, "matches": 0}
    return _encoder.encode(detail | common)


def decode_match(line: bytes) -> Match:
    """Read a match back.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(line, type=Match)
