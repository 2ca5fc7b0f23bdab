"""The configuration: where values come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config import Config, load_config
from worker.errors import ConfigError


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text("[match]\ntop_k = 1\nmax_matches = 1\nthreshold = 0.25\n")
    environ = {"ENTITYCLIP_MATCH__TOP_K": "2", "ENTITYCLIP_MATCH__MAX_MATCHES": "2"}
    config = load_config(file, {"match.top_k": 3, "match.window_days": None}, environ=environ)
    match = config.match
    assert (match.top_k, match.max_matches, match.threshold, match.window_days) == (3, 2, 0.25, None)


def test_nothing_given_is_the_defaults() -> None:
    assert load_config(environ={}) == Config()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ENTITYCLIP_STROE": "x"}, "stroe"),
        ({"ENTITYCLIP_MATCH__TOPK": "3"}, "topk"),
        ({"ENTITYCLIP_MATCH__TOP_K": "0"}, "match.top_k"),
        ({"ENTITYCLIP_MATCH__THRESHOLD": "inf"}, "match.threshold"),
        ({"ENTITYCLIP_MATCH__THRESHOLD": "nan"}, "match.threshold"),
        ({"ENTITYCLIP_ENCODE__BATCH_SIZE": "many"}, "encode.batch_size"),
        ({"ENTITYCLIP_MATCH": "3"}, "match"),
        ({"ENTITYCLIP_ALIAS": "a b"}, "alias"),
    ],
)
def test_bad_variable_is_one_line_that_names_it(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(environ=environ)
    assert "\n" not in str(caught.value)


def test_variables_of_the_tests_are_not_configuration() -> None:
    assert load_config(environ={"ENTITYCLIP_TEST_DATA": "x", "ENTITYCLIP_PARITY": "x"}) == Config()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sore = 1", "sore"),
        (b"[match]\ntop_k = '3'", "match.top_k"),
        (b"[match", "worker.toml"),
        (b"\xff", "utf-8"),
    ],
)
def test_bad_file_is_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "worker.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file, environ={})
    assert "\n" not in str(caught.value)
    assert "worker.toml" in str(caught.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml", environ={})


def test_value_and_section_of_one_name_clash() -> None:
    with pytest.raises(ConfigError, match="match"):
        load_config(None, {"match": 1, "match.top_k": 2}, environ={})


def test_secret_is_not_printed() -> None:
    shown = load_config(None, {"store_api_key": "hunter2"}, environ={}).redacted()
    assert "hunter2" not in str(shown)
    assert shown["store_api_key"] == "***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@redis:6379/0", "redis://***@redis:6379/0"),
        ("redis://redis:6379/0?password=hunter2&db=1", "redis://redis:6379/0?password=***&db=1"),
        ("https://llm.example.org/v1?api-key=hunter2", "https://llm.example.org/v1?api-key=***"),
        ("redis://redis:6379/0?db=1", "redis://redis:6379/0?db=1"),
    ],
)
def test_what_is_secret_in_an_address_is_not_shown(url: str, shown: str) -> None:
    assert load_config(None, {"redis.url": url}, environ={}).redacted()["redis"]["url"] == shown


@pytest.mark.parametrize("name", ["source", "media_store", "redis.url"])
def test_a_nul_character_is_refused_where_it_stands(name: str) -> None:
    """No path and no address may hold one; most of what takes them would break off with another error."""
    with pytest.raises(ConfigError, match=f"`{name}` holds a NUL character"):
        load_config(None, {name: "file:a\0b"}, environ={})
