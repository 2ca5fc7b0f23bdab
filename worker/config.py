"""The worker's configuration: one typed schema, read once into frozen objects.

Later wins: defaults, the TOML file, `ENTITYCLIP_*` variables, overrides (the command line). A section's
field is `ENTITYCLIP_MATCH__TOP_K` in the environment and `match.top_k` among the overrides. A list or a table
is written as JSON in the environment: `ENTITYCLIP_FETCH__ALLOW_NETWORKS=["10.1.0.0/16"]`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from worker.errors import ConfigError
from worker.sections import (
    DeadLetterLimits,
    EncodeConfig,
    FetchConfig,
    HealthConfig,
    KafkaConfig,
    LimitsConfig,
    LlmConfig,
    MatchConfig,
    MetricsConfig,
    PrepareConfig,
    RedisConfig,
    Seconds,
)

PREFIX = "ENTITYCLIP_"
_NOT_OURS = ("ENTITYCLIP_TEST_", "ENTITYCLIP_PARITY")
_SECRETS = ("store_api_key", "kafka.ssl_key_password", "kafka.sasl_password", "llm.api_key")
_URLS = ("store", "media_store", "redis.url", "llm.base_url")  # may hold a password
Moment = Annotated[datetime, Meta(tz=True)]
_PASSWORD = re.compile(r"(//)[^/@]*@")
_SECRET_PARAMETER = re.compile(r"([?&][\w.-]*(?:password|secret|token|key)=)[^&#\s]*", re.IGNORECASE)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the worker can be told.

    Args:
        source: `kafka:TOPIC`, or `file:PATH` of a JSONL file or a folder; `file:-` is standard input.
        sink: where matches go.
        dead_letters: where refused posts go; None lays a file beside a file sink.
        outcomes: where one small record a post goes; None for nowhere.
        emit: whether matches are written; a backfill fills the store alone.
        start_at: where a topic without commits begins, by the records' time; None as Kafka is configured.
        until: a topic is read up to this time and the run ends; None for ever.
        offsets: file that remembers how far a file source was read; None lays it beside a file sink.
        store: folder of an embedded store, or the URL of a Qdrant server.
        alias: name that readers know the collection by.
        model: a checkpoint's folder, or `tiny` for the one in the package.
        next_model: a second checkpoint, while one takes the other's place: both collections are written, and
            the one that the alias names is searched (`entityclip migrate`).
        media_root: folder below which a post's image paths may lie; None takes the source's own.
        media_store: for thumbnails: a folder, or an fsspec URL such as `s3://BUCKET/FOLDER`; None for none.
        media_side: longer side of a thumbnail, pixels; at 384, the shorter one of a 3:2 picture is 256. After
            a change of the model, one with a larger input is given pictures that are blown up.
        retention_days: points older than this are deleted, by their post's date, or else by when they were
            stored; None keeps all.
        drain_deadline_s: how long a stop waits for what is in flight; None for 1.5 at files, 20 at Kafka.
        commit_interval_s: least time between two commits.
    """

    source: str = ""
    sink: str = ""
    dead_letters: str | None = None
    outcomes: str | None = None
    emit: bool = True
    start_at: Moment | None = None
    until: Moment | None = None
    offsets: str | None = None
    store: str = "entityclip-store"
    store_api_key: str | None = None
    store_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    alias: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")] = "entityclip"
    model: str = "tiny"
    next_model: str | None = None
    device: str = "cpu"
    media_root: str | None = None
    media_store: str | None = None
    media_side: Annotated[int, Meta(ge=64, le=4096)] = 384
    match: MatchConfig = MatchConfig()
    encode: EncodeConfig = EncodeConfig()
    prepare: PrepareConfig = PrepareConfig()
    limits: LimitsConfig = LimitsConfig()
    kafka: KafkaConfig = KafkaConfig()
    redis: RedisConfig = RedisConfig()
    llm: LlmConfig = LlmConfig()
    fetch: FetchConfig = FetchConfig()
    dead_letter_limits: DeadLetterLimits = DeadLetterLimits()
    metrics: MetricsConfig = MetricsConfig()
    health: HealthConfig = HealthConfig()
    retention_days: Annotated[float, Meta(gt=0, le=36_500)] | None = None
    drain_deadline_s: Seconds | None = None
    commit_interval_s: Seconds = 0.5
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"

    def redacted(self) -> dict[str, Any]:
        """As nested dictionaries, secrets replaced."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        for name in _SECRETS:
            _change(fields, name, lambda value: "***")
        for name in _URLS:
            _change(fields, name, without_passwords)
        return fields


def without_passwords(text: str) -> str:
    """The text with the user and password of every URL in it, and secret parameters, replaced by ***."""
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def _change(fields: dict[str, Any], name: str, change: Callable[[str], str]) -> None:
    *sections, last = name.split(".")
    for section in sections:
        fields = fields[section]
    if fields[last] is not None:
        fields[last] = change(fields[last])


def load_config(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read the configuration.

    Args:
        path: a TOML file.
        overrides: by dotted name (`match.top_k`); a None is an option that was not given.
        environ: instead of the process's own.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type or a value out of bounds; one line.
    """
    file_values = _read_toml(path) if path else {}
    if path:
        _convert(file_values, str(path), strict=True)
    values = _merge(file_values, _nested(_from_environment(os.environ if environ is None else environ)))
    _convert(values, "the environment", strict=False)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return _convert(_merge(values, _nested(given)), "the command line", strict=False)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    for name, value in environ.items():
        if name.startswith(PREFIX) and not name.startswith(_NOT_OURS):
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            yield key, _from_json(name, value) if key in _JSON_FIELDS else value


def _from_json(name: str, value: str) -> object:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise ConfigError(f"configuration (the environment): {name} is no JSON: {error}") from error


def _json_fields(type_: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """The dotted names of the fields that hold a list or a table."""
    for field in msgspec.structs.fields(type_):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _json_fields(field.type, f"{prefix}{field.name}.")
        elif get_origin(field.type) in (list, dict):
            yield prefix + field.name


_JSON_FIELDS = frozenset(_json_fields(Config))


def _nested(pairs: Mapping[str, object] | Iterator[tuple[str, object]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in dict(pairs).items():
        *sections, name = key.split(".")
        place = result
        for section in sections:
            inner = place.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"configuration: {section!r} is given as a value and as a section")
            place = inner
        place[name] = str(value) if isinstance(value, Path) else value
    return result


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _refuse_nul(value: object, name: str, where: str) -> None:
    """No path and no address may hold one, and few of those that take them say so."""
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"configuration ({where}): `{name}` holds a NUL character")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nul(item, f"{name}.{key}" if name else str(key), where)


def _convert(values: Mapping[str, Any], where: str, *, strict: bool) -> Config:
    _refuse_nul(values, "", where)
    try:
        return msgspec.convert(values, Config, strict=strict)
    except msgspec.ValidationError as error:
        message = (
            str(error)
            .replace(" - at `$", ": `")
            .replace("`.", "`")
            .replace("Object contains unknown", "unknown")
        )
        raise ConfigError(f"configuration ({where}): {message}") from error
