"""The library's records as the worker's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from worker.transport.kafka.clients import to_record


def _raw(**changes: Any) -> ConsumerRecord:
    fields = dict.fromkeys(ConsumerRecord._fields)
    fields |= {"topic": "posts", "partition": 0, "offset": 7, "timestamp": 0, "headers": [], **changes}
    return ConsumerRecord(**fields)


def test_a_header_without_a_value_has_an_empty_one() -> None:
    assert to_record(_raw(headers=[("a", None), ("b", b"1")])).headers == (("a", b""), ("b", b"1"))


def test_a_timestamp_is_in_utc_to_the_millisecond() -> None:
    assert to_record(_raw(timestamp=1_500)).timestamp == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


@pytest.mark.parametrize("timestamp", [-1, 2**60, None])
def test_a_timestamp_that_is_none_is_left_out(timestamp: int | None) -> None:
    assert to_record(_raw(timestamp=timestamp)).timestamp is None


def test_a_record_carries_the_epoch_it_was_delivered_under() -> None:
    assert to_record(_raw(), 3).epoch == 3
