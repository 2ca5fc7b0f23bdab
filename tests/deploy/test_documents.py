"""What the documents tell a person to type exists: commands and their options, values of the chart, links."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache, reduce
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.deploy.charts import environment, of_kind, only, render
from tests.deploy.documents import (
    DEPLOY,
    DOCUMENTS,
    GUIDE,
    ROOT,
    RUNBOOK,
    Call,
    calls,
    calls_in,
    inline_code,
    shell_lines,
    yaml_blocks,
)
from tests.deploy.tools import HELM, tool
from worker.cli.main import app
from worker.config import Config, load_config


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


@pytest.mark.parametrize(
    "runs", ["in_worker", "in_job", "kubectl exec deploy/x --", "docker run job/x", "cd /x &&"]
)
def test_a_command_is_found_behind_what_runs_it(runs: str) -> None:
    assert [call.words for call in calls_in(f"Then `{runs} entityclip rum --far`.", "a text")] == [
        ("rum", "--far")
    ]


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


def test_the_deployments_that_the_guide_names_are_those_of_its_releases() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    releases = set(re.findall(r"\bhelm install (\S+)", text)) - {"recovery"}  # nobody looks into that one
    names = {only(render(release=each), "Deployment")["metadata"]["name"] for each in releases}
    assert set(re.findall(r"\bdeployment/([\w-]+)", text)) == names


def test_the_secrets_that_the_example_names_are_made_with_their_keys() -> None:
    made = {}
    for found in re.finditer(
        r"create secret generic (\S+)((?:[\s\\]+--from-literal=\S+)+)", GUIDE.read_text("utf-8")
    ):
        made[found[1]] = set(re.findall(r"--from-literal=([\w-]+)=", found[2]))
    news = next(yaml_blocks(GUIDE))
    assert all(secret["key"] in made[secret["name"]] for secret in news["secrets"].values())
    (store,) = (each["secretRef"]["name"] for each in news["extraEnvFrom"])
    assert made[store] == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def over(values: Any, further: Any) -> Any:
    """As helm lays one file of values over another."""
    if not (isinstance(values, dict) and isinstance(further, dict)):
        return further
    return values | {key: over(values.get(key), value) for key, value in further.items()}


def configured(*files: dict[str, Any]) -> Config:
    """What a worker reads under these files of values."""
    return load_config(environ=environment(render(reduce(over, files))))


def test_the_trial_release_shares_nothing_that_two_releases_must_not_share() -> None:
    news, trial, _ = yaml_blocks(GUIDE)
    ours, theirs = configured(news), configured(news, trial)
    for setting in ("source", "sink", "outcomes", "dead_letters", "alias", "kafka.group", "redis.prefix"):
        read = attrgetter(setting)
        assert read(ours) != read(theirs), setting
    assert theirs.kafka.bootstrap_servers == ours.kafka.bootstrap_servers


def test_the_recovery_release_writes_no_match_and_reads_from_the_time_it_is_told() -> None:
    news, _, recovery = yaml_blocks(GUIDE)
    config = configured(news, recovery)
    assert not config.emit
    assert config.dead_letter_limits.ignore
    assert config.outcomes is None
    assert config.start_at is not None
    assert config.kafka.group != "entityclip"
    assert config.alias == configured(news).alias


def test_a_command_goes_through_the_function_of_the_guide_into_a_job(tmp_path: Path) -> None:
    news = next(yaml_blocks(GUIDE))
    (tmp_path / "news.yaml").write_text(yaml.safe_dump(news), encoding="utf-8")
    (tmp_path / "deploy").symlink_to(DEPLOY)
    function = re.search(r"^    in_job\(\) \{\n(.*\n)+?    \}$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert function
    # what would be created is printed
    script = f'kubectl() {{ cat; }}; helm() {{ "{tool(HELM)}" "$@"; }}\n{function[0]}\n'
    script += "in_job entityclip run --group repair --from 2026-05-01T00:00:00Z --limit 3"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    (container,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--group", "repair", "--from", "2026-05-01T00:00:00Z", "--limit", "3"]


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
        assert not missing, f"{name(document)}: {missing}"
