"""The generated part of values.schema.json is what the worker's settings say today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.generate import __main__ as generate
from deploy.generate import schema


def test_the_schema_in_the_chart_is_what_the_generator_writes() -> None:
    text = schema.PATH.read_text(encoding="utf-8")
    assert schema.updated(text) == text


def test_the_rest_of_the_schema_is_left_as_it_is() -> None:
    text = schema.PATH.read_text(encoding="utf-8")
    stale = json.loads(text)
    stale["properties"]["config"] = {}
    assert schema.updated(json.dumps(stale)) == text


def test_every_setting_says_what_it_is_or_has_a_name_that_does() -> None:
    config = schema.config_schema()
    assert "description" in config["properties"]["alias"]
    assert (
        "several separated by commas"
        in config["properties"]["kafka"]["properties"]["bootstrap_servers"]["description"]
    )
    assert config["properties"]["fetch"]["properties"]["per_host"]["description"] == ("downloads at once.")


def test_bounds_and_patterns_are_kept() -> None:
    config = schema.config_schema()["properties"]
    assert (config["media_side"]["minimum"], config["media_side"]["maximum"]) == (64, 4096)
    assert config["alias"]["pattern"] == "^[A-Za-z0-9_-]{1,100}$"


def test_a_setting_that_may_be_none_may_be_null() -> None:
    config = schema.config_schema()["properties"]
    assert config["retention_days"]["type"] == ["number", "null"]
    assert None in config["kafka"]["properties"]["sasl_mechanism"]["enum"]


def test_check_says_what_is_not_current_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "values.schema.json"
    stale.write_text(json.dumps({"properties": {"config": {}}}), encoding="utf-8")
    monkeypatch.setattr(schema, "PATH", stale)
    monkeypatch.setattr(generate, "_FOLDER", tmp_path)
    monkeypatch.setattr(generate, "_DASHBOARD", tmp_path / "dashboard.json")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "values.schema.json is not current",
        "dashboard.json is not current",
    ]
    assert not (tmp_path / "dashboard.json").exists()


def test_what_was_written_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "values.schema.json"
    stale.write_text(json.dumps({"properties": {"config": {}}}), encoding="utf-8")
    monkeypatch.setattr(schema, "PATH", stale)
    monkeypatch.setattr(generate, "_FOLDER", tmp_path)
    monkeypatch.setattr(generate, "_DASHBOARD", tmp_path / "dashboard.json")
    assert [generate.main([]), generate.main(["--check"])] == [0, 0]
