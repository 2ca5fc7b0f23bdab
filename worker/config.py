"""The worker's configuration: one typed schema, read once into frozen objects.

Later wins: defaults, the TOML file, `ENTITYCLIP_*` variables, overrides (the command line). A section's
field is `ENTITYCLIP_MATCH__TOP_K` in the environment and `match.top_k` among the overrides.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from worker.errors import ConfigError

PREFIX = "ENTITYCLIP_"
_NOT_OURS = ("ENTITYCLIP_TEST_", "ENTITYCLIP_PARITY")
_SECRETS = ("store_api_key",)

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class MatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as a match.

    Args:
        top_k: hits a search asks for.
        max_matches: a post, at most.
        threshold: least calibrated score; None takes the checkpoint's.
        window_days: largest distance between the two posts' dates; None for any. With a window, a post
            without a date is matched only with others without one.
        same_post: whether a post's own text and images match each other.
    """

    top_k: Annotated[int, Meta(ge=1, le=1000)] = 20
    max_matches: Annotated[int, Meta(ge=1, le=1000)] = 10
    threshold: Probability | None = None
    window_days: Annotated[float, Meta(gt=0, le=36_500)] | None = None
    same_post: bool = False


class EncodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder's batches.

    Args:
        batch_size: posts in a batch, and pictures or texts in a forward pass, at most.
        linger_ms: how long a batch that is not full waits for more.
    """

    batch_size: Annotated[int, Meta(ge=1, le=4096)] = 32
    linger_ms: Annotated[float, Meta(ge=0, le=10_000)] = 20.0


class PrepareConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decoding images and cutting texts: how many threads share it."""

    threads: Annotated[int, Meta(ge=1, le=256)] = 2


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds; the defaults fit 4 GiB.

    Args:
        in_flight_bytes: of all posts between delivery and outcome.
        in_flight_posts: the same, counted.
        uncommitted_posts: between the oldest unfinished record and the newest delivered one.
        record_bytes: of one record.
        text_bytes: of one post's text.
        image_bytes: of one image file.
        image_pixels: of one image, read from its header before decoding.
    """

    in_flight_bytes: Bytes = 256 << 20
    in_flight_posts: Count = 256
    uncommitted_posts: Count = 10_000
    record_bytes: Bytes = 32 << 20
    text_bytes: Bytes = 1 << 20
    image_bytes: Bytes = 20 << 20
    image_pixels: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 50_000_000


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Prometheus finds the metrics; no port, no server."""

    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    address: str = "127.0.0.1"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the worker can be told.

    Args:
        source: `file:PATH` of a JSONL file or a folder; `file:-` is standard input.
        sink: where matches go.
        dead_letters: where refused posts go; None lays a file beside a file sink.
        outcomes: where one small record a post goes; None for nowhere.
        offsets: file that remembers how far a file source was read; None lays it beside a file sink.
        store: folder of an embedded store, or the URL of a Qdrant server.
        alias: name that readers know the collection by.
        model: a checkpoint's folder, or `tiny` for the one in the package.
        media_root: folder below which a post's image paths may lie; None takes the source's own.
        media_store: folder for thumbnails; None for none.
        drain_deadline_s: how long a stop waits for what is in flight.
        commit_interval_s: least time between two commits.
    """

    source: str = ""
    sink: str = ""
    dead_letters: str | None = None
    outcomes: str | None = None
    offsets: str | None = None
    store: str = "entityclip-store"
    store_api_key: str | None = None
    store_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    alias: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")] = "entityclip"
    model: str = "tiny"
    device: str = "cpu"
    media_root: str | None = None
    media_store: str | None = None
    match: MatchConfig = MatchConfig()
    encode: EncodeConfig = EncodeConfig()
    prepare: PrepareConfig = PrepareConfig()
    limits: LimitsConfig = LimitsConfig()
    metrics: MetricsConfig = MetricsConfig()
    drain_deadline_s: Seconds = 1.5
    commit_interval_s: Seconds = 0.5
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    def redacted(self) -> dict[str, Any]:
        """As nested dictionaries, secrets replaced."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields | {name: "***" for name in _SECRETS if fields[name] is not None}


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
            yield name.removeprefix(PREFIX).lower().replace("__", "."), value


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


def _convert(values: Mapping[str, Any], where: str, *, strict: bool) -> Config:
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
