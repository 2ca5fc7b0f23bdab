"""Log lines: their form, their level, and what client libraries say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker.observe.logs import configure_logging

log = structlog.stdlib.get_logger("worker.test")
LIBRARIES = ("kafka", "httpx", "httpx2", "openai", "qdrant_client", "redis")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Everything as it was before the test."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(list(each.handlers), each.propagate, each.level) for each in loggers]
    yield
    structlog.reset_defaults()
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line, which is on standard error."""
    printed = capsys.readouterr()
    (found,) = printed.err.splitlines()
    assert printed.out == ""
    return found


def test_json_is_one_object_a_line_with_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    log.bind(partition=1).info("dead letter", reason="invalid_json", post_id="é\n\ud800")
    event = json.loads(line(capsys))
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "info",
        "event": "dead letter",
        "partition": 1,
        "reason": "invalid_json",
        "post_id": "é\n\ud800",
    }


def test_json_takes_values_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    log.info("x", error=ValueError("why"))
    assert "why" in json.loads(line(capsys))["error"]


def test_text_begins_with_when_how_bad_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    log.info("dead letter", reason="invalid_json")
    names = [part.split("=")[0] for part in line(capsys).replace("dead letter", "dead-letter").split()]
    assert names == ["timestamp", "level", "event", "reason"]


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_an_exception_stays_on_the_line(capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    configure_logging("info", "json" if fmt == "json" else "text")
    try:
        raise ValueError("why")
    except ValueError:
        log.warning("x", exc_info=True)
    assert "ValueError: why" in line(capsys)


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    log.info("x")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_librarys_warning_goes_the_same_way(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logging("debug", "json")
    logging.getLogger(f"{name}.inside").warning("node %s is gone", 3)
    event = json.loads(line(capsys))
    assert (event["level"], event["logger"], event["message"]) == (
        "warning",
        f"{name}.inside",
        "node 3 is gone",
    )


def test_a_librarys_chatter_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug")
    logging.getLogger("kafka.client").info("chatter")
    assert capsys.readouterr().err == ""


def test_kafkas_library_is_silent_but_for_those_who_debug(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("kafka.net").error("Connection failed")
    assert capsys.readouterr().err == ""


def test_libraries_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", libraries=False)
    logging.getLogger("kafka").error("x")
    assert capsys.readouterr().err == ""


def test_a_librarys_malformed_log_call_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("kafka").warning("node %d is gone", "three")
    assert json.loads(line(capsys))["message"] == "node %d is gone"


def test_configured_twice_it_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug")
    configure_logging("debug")
    logging.getLogger("kafka").warning("x")
    assert line(capsys)
