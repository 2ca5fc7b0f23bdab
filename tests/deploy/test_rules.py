"""The alert and recording rules: sound, tested one by one, and written up in the runbook."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import promql_parser
import pytest
import yaml

from tests.deploy.promql import (
    ROOT,
    RULES,
    TARGET_LABELS,
    grouped_by,
    metric_names,
    recorded_names,
    rules,
    selectors,
    undeclared,
)
from tests.deploy.tools import PROMTOOL, run
from worker.config import Config

UNIT_TESTS: Final = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
DASHBOARD: Final = ROOT / "deploy" / "chart" / "files" / "dashboard.json"
SETTINGS: Final = msgspec.to_builtins(Config())
RUNBOOK: Final = ROOT / "deploy" / "RUNBOOK.md"
ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED: Final = {rule["record"]: rule for rule in rules() if "record" in rule}


def sections() -> dict[str, str]:
    """The runbook's sections about alerts, by their titles."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title: text for title, text in zip(parts[1::2], parts[2::2], strict=True) if title != "Tools"}


@functools.cache
def unit_tests(path: Path) -> Mapping[str, Any]:
    """One file of promtool's."""
    tests: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tests


def cases() -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every look at an alert in the unit tests, with the group of series that it looks at."""
    for path in UNIT_TESTS:
        for group in unit_tests(path)["tests"]:
            for case in group["alert_rule_test"]:
                yield group, case


def series_of(expression: str) -> set[str]:
    """What an expression selects, recorded series traced back to what they are made of."""
    names: set[str] = set()
    for selector in selectors(expression):
        recorded = RECORDED.get(selector.name)
        names |= series_of(recorded["expr"]) if recorded else {selector.name}
    return names


def fed(group: Mapping[str, Any]) -> set[str]:
    """The names of the series that a group of unit tests feeds."""
    return {each["series"].partition("{")[0] for each in group["input_series"]}


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    checked = run(PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_on_its_condition_and_is_silent_beside_it(path: Path) -> None:
    tested = run(PROMTOOL, "test", "rules", str(path))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_that_fires_and_one_that_is_silent_with_its_series_there(alert: str) -> None:
    seen = [(group, case["exp_alerts"]) for group, case in cases() if case["alertname"] == alert]
    assert any(expected for _, expected in seen), "no case in which it fires"
    needed = series_of(ALERTS[alert]["expr"])
    assert any(not expected and needed & fed(group) for group, expected in seen), (
        "no case in which it is silent"
    )


def test_unit_tests_name_only_alerts_that_are_there() -> None:
    assert {case["alertname"] for _, case in cases()} == set(ALERTS)


def test_unit_tests_feed_only_series_that_a_worker_exposes_with_the_labels_that_it_gives_them() -> None:
    series = {each["series"] for group, _ in cases() for each in group["input_series"]}
    assert list(undeclared(sorted(series))) == []


def test_unit_tests_evaluate_the_groups_in_the_order_of_the_file() -> None:
    groups = [group["name"] for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]]
    for path in UNIT_TESTS:
        assert unit_tests(path)["group_eval_order"] == groups, path.name


def test_rules_select_only_declared_series_by_declared_labels() -> None:
    assert list(undeclared((rule["expr"] for rule in rules()), recorded_names())) == []


def test_a_series_that_nobody_declares_is_found() -> None:
    found = list(
        undeclared(["rate(entityclip_postz_total[5m])", 'entityclip_outcomes_total{kind="matched"}'])
    )
    assert [line.partition(",")[0] for line in found] == [
        "entityclip_postz_total: not declared",
        "entityclip_outcomes_total: has no label kind",
    ]


def test_rules_group_and_match_only_by_labels_that_their_series_have() -> None:
    declared = metric_names()
    for rule in rules():
        known = TARGET_LABELS.union(*(declared.get(name, frozenset()) for name in series_of(rule["expr"])))
        for labels in grouped_by(rule["expr"]):
            assert labels <= known, rule


def test_series_that_are_not_ours_are_selected_by_the_job() -> None:
    for rule in rules():
        for selector in selectors(rule["expr"]):
            job = [each.value for each in selector.matchers if each.name == "job" and each.op == "="]
            assert job == ([] if "entityclip_" in selector.name else ["entityclip"]), rule


def test_rules_refer_only_to_recorded_series_of_earlier_rules() -> None:
    known: set[str] = set()
    for rule in rules():
        for selector in selectors(rule["expr"]):
            assert ":" not in selector.name or selector.name in known, rule
        known |= {rule["record"]} if "record" in rule else set()


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    pattern = re.compile(
        r"namespace_release:entityclip_[a-z0-9_]+:(sum|constant|(rate|ratio|quantile|increase)\d+[mh])"
    )
    assert [name for name in RECORDED if not pattern.fullmatch(name)] == []


def test_recorded_series_keep_namespace_and_release() -> None:
    for rule in RECORDED.values():
        expression = promql_parser.parse(rule["expr"])
        assert all({"namespace", "release"} <= labels for labels in grouped_by(str(expression)) if labels), (
            rule
        )


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_waits_has_a_severity_and_says_what_happened(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.fullmatch(r"Entityclip[A-Z][A-Za-z]+", alert)
    assert promql_parser.parse_duration(rule["for"]).total_seconds() >= 60
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{alert.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert list(sections()) == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_section_says_what_it_means_how_to_tell_and_what_to_do(alert: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\*", sections()[alert], flags=re.MULTILINE) == ["Means", "Tell", "Do"]


def test_the_runbook_lists_the_alerts_with_the_severities_of_the_rules() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \|", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == [(name, name.lower(), rule["labels"]["severity"]) for name, rule in ALERTS.items()]


def test_links_of_the_runbook_lead_to_its_sections() -> None:
    anchors = {title.lower() for title in sections()}
    assert set(re.findall(r"\(#(\w+)\)", RUNBOOK.read_text(encoding="utf-8"))) <= anchors


def test_panels_that_the_runbook_names_are_on_the_dashboard() -> None:
    panels = {panel["title"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]}
    named = re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", RUNBOOK.read_text(encoding="utf-8"))
    assert set(named) - panels == set()
    assert len(named) > len(ALERTS)


def test_settings_that_the_runbook_names_are_the_worker_s_or_the_chart_s() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "chart" / "values.yaml").read_text(encoding="utf-8"))
    trees = ({**chart, "config": SETTINGS}, SETTINGS)
    named = re.findall(r"`([a-z][a-zA-Z_]*(?:\.[a-zA-Z_]+)+)(?:: \w+)?`", RUNBOOK.read_text(encoding="utf-8"))
    assert [name for name in named if not any(is_in(tree, name.split(".")) for tree in trees)] == []
    assert len(named) > len(ALERTS)


def is_in(tree: object, path: list[str]) -> bool:
    """Whether nested mappings have this path."""
    for name in path:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True
