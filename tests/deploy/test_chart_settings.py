"""Settings of the values arrive in the worker as they were given: through YAML, helm and the environment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.generate.schema import MOVED, Schema, config_schema
from tests.deploy.charts import environment, only, render, rendered
from tests.deploy.values_matrix import CASES
from worker.config import Config, load_config

_HOSTILE = "ü \"'\\ $(HOME) {{ .Values }} # : & <b> ~\ttrue\n"
_MOMENT = "2026-05-01T08:00:00Z"
# Where the schema wants a certain form; a low one and a high one.
_SPECIAL: dict[str, tuple[Any, Any]] = {
    "source": ("kafka:a", "kafka:other.posts"),
    "sink": ("kafka:b", "kafka:other.matches"),
    "dead_letters": ("kafka:c", "kafka:other.dead"),
    "outcomes": ("kafka:d", "kafka:other.outcomes"),
    "store": ("http://q", "https://qdrant.example.org:6333/x?a=b&c=%20"),
    "start_at": (_MOMENT, _MOMENT),
    "media_store": ("s3://a", f"s3://bucket/{_HOSTILE}"),
    "alias": ("0", "true"),
    "redis.prefix": ("1e3", "null"),
    "kafka.security_protocol": ("PLAINTEXT", "SSL"),
    "kafka.partitions": (1, 10_000),
}


def _paths(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    for name, inner in schema["properties"].items():
        if inner.get("additionalProperties") is False:
            yield from _paths(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


def _given_here(path: str) -> bool:
    return path not in MOVED and path.partition(".")[0] not in MOVED


FIELDS = {path: schema for path, schema in _paths(config_schema()) if _given_here(path)}


def _extremes(path: str, schema: Schema) -> tuple[Any, Any]:
    """Two values that this setting may have, as far apart as they can be."""
    if path in _SPECIAL:
        return _SPECIAL[path]
    if "enum" in schema:
        return schema["enum"][0], [value for value in schema["enum"] if value is not None][-1]
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 0.001)
    return {
        "integer": (low, schema.get("maximum")),
        "number": (low, schema.get("maximum")),
        "boolean": (False, True),
        "string": ("012", _HOSTILE),
        "array": ([], [_HOSTILE, "7", "null"]),
        "object": ({}, {"a": {"b": [1, 16777216, 0.5, None, _HOSTILE]}, "c": False}),
    }[kind]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def _arrived(values: dict[str, Any]) -> dict[str, Any]:
    """The worker's settings, from the environment that the chart gives it."""
    config = load_config(environ=environment(render(values)))
    arrived: dict[str, Any] = msgspec.to_builtins(config)
    return arrived


@pytest.fixture(scope="module", params=[0, 1], ids=["low", "high"])
def extremes(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every setting at one end, as given and as it arrived."""
    wanted = {path: _extremes(path, schema)[request.param] for path, schema in FIELDS.items()}
    return wanted, _arrived({"config": _nested(wanted)})


@pytest.mark.parametrize("path", FIELDS)
def test_a_setting_arrives_as_it_was_given(
    path: str, extremes: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    wanted, arrived = extremes
    section, _, name = path.rpartition(".")
    found = (arrived[section] if section else arrived)[name]
    expected = wanted[path]
    if path == "start_at":
        found, expected = datetime.fromisoformat(found), datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert found == expected


@settings(max_examples=8, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_text_and_any_table_arrives_as_it_was_given(text: str, table: Any) -> None:
    llm = {"model": text, "extra_body": {"a": table}, "opt_out_sources": [text]}
    arrived = _arrived({"config": {"llm": llm}})["llm"]
    assert {name: arrived[name] for name in llm} == llm


@pytest.mark.parametrize("case", CASES)
def test_the_worker_accepts_the_environment_of_every_case(case: str) -> None:
    config = load_config(environ=environment(rendered(case)))
    address = CASES[case].get("listenAddress", "0.0.0.0")
    assert (config.metrics.address, config.metrics.port) == (address, 9108)


def test_the_defaults_are_the_topics_of_the_documentation() -> None:
    config = load_config(environ=environment(rendered("defaults")))
    assert (config.source, config.sink, config.outcomes, config.dead_letters, config.kafka.group) == (
        "kafka:news.posts",
        "kafka:news.matches",
        "kafka:news.outcomes",
        "kafka:news.posts.dead",
        "entityclip",
    )


def test_a_null_leaves_a_setting_out() -> None:
    given = {"config": {"outcomes": None, "match": {"threshold": None}}}
    arrived = _arrived(given)
    assert (arrived["outcomes"], arrived["match"]["threshold"]) == (None, Config().match.threshold)


def test_settings_are_no_deeper_than_the_template_reads() -> None:
    assert max(path.count(".") for path in FIELDS) == 1


def test_changed_settings_roll_the_pods() -> None:
    def annotation(values: dict[str, Any]) -> str:
        template = only(render(values), "Deployment")["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    assert annotation({}) != annotation({"config": {"match": {"top_k": 7}}})
