"""What the documents tell a person to type exists: commands and their options, values of the chart, links."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.deploy.charts import environment, of_kind, only, render
from tests.deploy.documents import (
    DEPLOY,
    DOCUMENTS,
    GUIDE,
    ROOT,
    RUNBOOK,
    Call,
    calls,
    inline_code,
    shell_lines,
    yaml_blocks,
)
from worker.cli.main import app
from worker.config import load_config


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- commands -------------------------------------------------------------------------------------


@cache
def entityclip() -> Any:
    """The command line. Of typer's own copy of click: its commands are told by what they have."""
    return typer.main.get_command(app)


def problem(call: Call) -> str | None:
    """What is wrong with a command."""
    command = entityclip()
    words = list(call.words)
    while commands := getattr(command, "commands", None):
        if not words or words[0].startswith("-"):
            break
        if (step := words.pop(0)) not in commands:
            return f"{call}: no command {step}"
        command = commands[step]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    missing = used - known - {"--help", "-h"}
    return f"{call}: no option {', '.join(sorted(missing))}" if missing else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_command_of_a_document_exists_with_its_options(document: Path) -> None:
    assert not [found for call in calls(document) if (found := problem(call))]


@pytest.mark.parametrize("words", [("rum",), ("run", "--stoer", "x"), ("migrate", "forwards")])
def test_a_command_that_is_none_is_found(words: tuple[str, ...]) -> None:
    assert problem(Call("a document", words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_document_tells_commands(document: Path) -> None:
    assert len(list(calls(document))) >= 3


# -- values of the chart --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "chart" / "values.schema.json").read_text(encoding="utf-8"))
    return loaded


def has_value(schema: dict[str, Any], path: str) -> bool:
    """Whether the values have this dotted path; below an open table anything is."""
    place, parts = schema, path.split(".")
    while parts:
        place = resolved(schema, place)
        properties = place.get("properties", {})
        whole = ".".join(parts)
        if whole in properties:  # `secrets` has keys with dots
            return True
        if parts[0] not in properties:
            return place.get("additionalProperties", True) is not False
        place = properties[parts.pop(0)]
    return True


def resolved(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in place:
        place = schema["$defs"][place["$ref"].rsplit("/", 1)[1]]
    return place


@pytest.mark.parametrize("document", [GUIDE, RUNBOOK], ids=name)
def test_every_value_that_a_document_names_is_one_of_the_chart(
    document: Path, schema: dict[str, Any]
) -> None:
    named = {
        found.split("=")[0] for found in inline_code(document) if re.match(r"[a-z]\w*(\.\w+)+(=|$)", found)
    }
    named = {path for path in named if path.split(".")[0] in schema["properties"]}
    for line in shell_lines(document):
        named |= set(re.findall(r"--set(?:-string)?[ =]([\w.]+)=", line))
    assert named, "no value is named"
    assert not {path for path in named if not has_value(schema, path)}


def test_a_value_that_the_chart_does_not_have_is_found(schema: dict[str, Any]) -> None:
    paths = (
        "config.kafka.group",
        "secrets.kafka.sasl_password",
        "replicas",
        "config.kafka.gruop",
        "probes.ready",
    )
    assert [has_value(schema, path) for path in paths] == [True, True, False, False, False]


@pytest.mark.parametrize("values", list(yaml_blocks(GUIDE)), ids=lambda values: next(iter(values)))
def test_every_example_of_values_is_taken_by_the_chart(values: dict[str, Any]) -> None:
    assert of_kind(render(values), "Deployment")


def test_the_objects_that_the_guide_names_are_those_of_its_release() -> None:
    manifests = render()
    text = GUIDE.read_text(encoding="utf-8")
    assert set(re.findall(r"\bdeployment/(\S+)", text)) == {only(manifests, "Deployment")["metadata"]["name"]}
    config = only(manifests, "ConfigMap", "-config")["metadata"]["name"]
    assert set(re.findall(r"ConfigMap `([\w-]+)`", text)) == {config}


def test_the_recovery_release_writes_no_match_and_reads_from_the_time_it_is_told() -> None:
    news, recovery = yaml_blocks(GUIDE)
    merged = {**news, **recovery, "config": news["config"] | recovery["config"]}
    merged["config"]["kafka"] = news["config"]["kafka"] | recovery["config"]["kafka"]
    config = load_config(environ=environment(render(merged)))
    assert not config.emit
    assert config.outcomes is None
    assert config.start_at is not None
    assert config.kafka.group != "entityclip"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
        assert not missing, f"{name(document)}: {missing}"
