"""The `config` part of the chart's `values.schema.json`, from the worker's own settings.

Everything else in that file is written by hand and left as it is.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from worker.config import Config

PATH = Path(__file__).parents[1] / "chart" / "values.schema.json"

Schema = dict[str, Any]

# Said elsewhere in the values, and so refused by the templates with a line that says where.
MOVED = {
    "device": "set by the value `device`",
    "model": "set by `model.path`",
    "next_model": "set by `nextModel.path`",
    "metrics": "set by the chart: port 9108 of `listenAddress`",
    "offsets": "of a file source only",
    "until": "ends the run, and a Deployment would start it again: use a Job",
    "store_api_key": "a secret: under `secrets`, as `store_api_key: {name: …, key: …}`",
    "kafka.sasl_password": "a secret: under `secrets`, as `kafka.sasl_password: {name: …, key: …}`",
    "kafka.ssl_key_password": "a secret: under `secrets`, as `kafka.ssl_key_password: {name: …, key: …}`",
    "llm.api_key": "a secret: under `secrets`, as `llm.api_key: {name: …, key: …}`",
}
# A pod keeps nothing in files, and several pods share everything.
_TOPIC = "^kafka:[A-Za-z0-9._-]{1,249}$"
# RFC 3339 with its offset; `format` alone is a remark to helm.
_MOMENT = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$"
_NARROWED: dict[str, Schema] = {
    "source": {"pattern": _TOPIC},
    "sink": {"pattern": _TOPIC},
    "dead_letters": {"pattern": _TOPIC},
    "outcomes": {"pattern": _TOPIC},
    "start_at": {"pattern": _MOMENT},
}
_REQUIRED = {"": ["source", "sink", "store", "kafka"], "kafka.": ["bootstrap_servers"]}
_ARGUMENT = re.compile(r"^(\w[\w*, ]*): (.*)$")


def config_schema() -> Schema:
    """The schema of `values.config`: the worker's settings, nested as in its TOML file."""
    definitions = msgspec.json.schema(Config)["$defs"]
    return _section(Config, definitions, "")


def updated(text: str) -> str:
    """A `values.schema.json` with its `config` part written anew."""
    schema = json.loads(text)
    schema["properties"]["config"] = config_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _section(type_: type[msgspec.Struct], definitions: dict[str, Schema], prefix: str) -> Schema:
    texts = _descriptions(type_)
    properties: dict[str, Schema] = {}
    for field in msgspec.structs.fields(type_):
        name, path = field.name, prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found = _section(field.type, definitions, f"{path}.")
        else:
            found = _flat(definitions[type_.__name__]["properties"][name]) | _NARROWED.get(path, {})
        text = f"Refused here: {MOVED[path]}." if path in MOVED else texts.get(name, "")
        properties[name] = ({"description": text} if text else {}) | found
    required = {"required": _REQUIRED[prefix]} if prefix in _REQUIRED else {}
    return {"type": "object", "additionalProperties": False, **required, "properties": properties}


def _flat(schema: Schema) -> Schema:
    """`anyOf` of a type and null as one schema: helm then says in one line what it wants."""
    if "anyOf" not in schema:
        return schema
    kinds: list[Schema] = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    if len(kinds) != 1 or "enum" in kinds[0]:
        choices = [value for kind in kinds for value in kind["enum"]]
        return {"enum": [*choices, None], "default": schema["default"]}
    return kinds[0] | {"type": [kinds[0]["type"], "null"], "default": schema["default"]}


def _descriptions(type_: type[msgspec.Struct]) -> dict[str, str]:
    """By field, from the docstring's `Args`, where one line may speak of several fields."""
    texts: dict[str, str] = {}
    names: list[str] = []
    _, _, arguments = inspect.cleandoc(type_.__doc__ or "").partition("Args:\n")
    for line in arguments.splitlines():
        found = _ARGUMENT.match(inspect.cleandoc(line)) if not line.startswith(" " * 8) else None
        if found:
            names = [name.strip() for name in found[1].split(",")]
        text = found[2] if found else line.strip()
        for name in names:
            texts[name] = f"{texts[name]} {text}" if name in texts and not found else text
    return texts
