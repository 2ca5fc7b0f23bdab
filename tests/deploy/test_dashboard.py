"""The Grafana dashboard: what the generator writes, of declared metrics only, and laid out without a flaw."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any, Final

import promql_parser
import pytest

from deploy.generate.dashboard import dashboard
from deploy.generate.dashboard_json import COLUMNS
from tests.deploy import promql
from worker.observe.metrics import Metrics
from worker.stages.chain import STAGES

PATH: Final = promql.ROOT / "deploy" / "chart" / "files" / "dashboard.json"
# Not the worker's: Prometheus' own, and those of NVIDIA's exporter, with the labels that we use.
FOREIGN: Final = {
    "ALERTS": frozenset({"alertname", "alertstate", "namespace", "release"}),
    "DCGM_FI_DEV_GPU_UTIL": frozenset({"Hostname", "gpu"}),
    "DCGM_FI_DEV_FB_USED": frozenset({"Hostname", "gpu"}),
    "DCGM_FI_DEV_FB_FREE": frozenset({"Hostname", "gpu"}),
    "DCGM_FI_DEV_GPU_TEMP": frozenset({"Hostname", "gpu"}),
    "DCGM_FI_DEV_POWER_USAGE": frozenset({"Hostname", "gpu"}),
    "DCGM_FI_DEV_XID_ERRORS": frozenset({"Hostname", "gpu"}),
}
# Metrics that are on no panel and in no rule, each with its reason.
UNUSED: Final = {
    "process_virtual_memory_bytes": "address space that libraries reserve; resident memory is what counts",
}
UNITS: Final = frozenset(
    {"none", "short", "percent", "percentunit", "s", "bytes", "Bps", "currencyUSD", "celsius", "watt"}
)
BUILT_IN: Final = frozenset({"__rate_interval", "__range"})
CHOICES: Final = ("namespace", "release", "instance")
RECORDED_LABELS: Final = frozenset({"namespace", "release", "stage", "call"})
_VARIABLE: Final = re.compile(r"\$(\w+)")


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    """The dashboard as it is shipped."""
    loaded: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return loaded


def graphs(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Its panels without the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(title, query) of every query of every panel, and of the annotations."""
    for panel in graphs(board):
        for target in panel["targets"]:
            yield panel["title"], target
    for annotation in board["annotations"]["list"]:
        if "target" in annotation:
            yield annotation["name"], annotation["target"]


def declared_labels() -> dict[str, frozenset[str]]:
    """The labels of every metric that a query may name."""
    own = {name: labels | promql.TARGET_LABELS for name, labels in promql.metric_names().items()}
    recorded = dict.fromkeys(promql.recorded_names(), RECORDED_LABELS)
    return own | recorded | {"up": promql.TARGET_LABELS} | FOREIGN


def test_the_file_is_what_the_generator_writes(board: dict[str, Any]) -> None:
    assert board == dashboard(), "python -m deploy.generate"


def test_queries_name_only_declared_metrics_and_labels(board: dict[str, Any]) -> None:
    declared = declared_labels()
    wrong = [
        (title, selector.name, matcher.name)
        for title, target in queries(board)
        for selector in promql.selectors(target["expr"])
        for matcher in selector.matchers
        if matcher.name not in declared.get(selector.name, ())
    ]
    assert wrong == []


def test_every_selector_names_its_metric(board: dict[str, Any]) -> None:
    declared = declared_labels()
    names = {
        (title, selector.name)
        for title, target in queries(board)
        for selector in promql.selectors(target["expr"])
    }
    assert {(title, name) for title, name in names if name not in declared} == set()


def test_queries_group_by_labels_that_the_metrics_have(board: dict[str, Any]) -> None:
    declared = declared_labels()
    wrong = []
    for title, target in queries(board):
        known = frozenset[str]().union(
            *(declared[selector.name] for selector in promql.selectors(target["expr"]))
        )
        wrong += [(title, group - known) for group in promql.grouped_by(target["expr"]) if group - known]
    assert wrong == []


def test_lines_are_named_by_labels_that_the_query_keeps(board: dict[str, Any]) -> None:
    wrong = []
    for title, target in queries(board):
        kept = frozenset[str]().union(*promql.grouped_by(target["expr"]))
        wrong += [
            (title, label)
            for label in re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", ""))
            if label not in kept
        ]
    assert wrong == []


def test_every_declared_metric_is_on_a_panel_or_in_a_rule(board: dict[str, Any]) -> None:
    expressions = [target["expr"] for _, target in queries(board)]
    expressions += [rule["expr"] for rule in promql.rules()]
    used = {selector.name for expression in expressions for selector in promql.selectors(expression)}
    families = [family.name for family in Metrics(STAGES).registry.collect()]
    endings = ("", "_total", "_bucket", "_count", "_sum")
    unused = {name for name in families if not any(name + ending in used for ending in endings)}
    assert unused == set(UNUSED)


def test_every_recorded_series_is_on_a_panel_or_in_a_rule(board: dict[str, Any]) -> None:
    expressions = [target["expr"] for _, target in queries(board)]
    expressions += [rule["expr"] for rule in promql.rules()]
    used = {selector.name for expression in expressions for selector in promql.selectors(expression)}
    assert promql.recorded_names() - used == set()


def test_own_metrics_follow_the_chosen_namespace_release_and_worker(board: dict[str, Any]) -> None:
    declared = declared_labels()
    wrong = [
        (title, selector.name, label)
        for title, target in queries(board)
        for selector in promql.selectors(target["expr"])
        if selector.name not in FOREIGN
        for label in CHOICES
        if label in declared[selector.name]
        if promql.Matcher(label, "=~", label) not in selector.matchers
    ]
    assert wrong == []


def test_metrics_that_every_process_has_are_told_apart_by_their_job(board: dict[str, Any]) -> None:
    wrong = [
        (title, selector.name)
        for title, target in queries(board)
        for selector in promql.selectors(target["expr"])
        if selector.name == "up" or selector.name.startswith("process_")
        if promql.Matcher("job", "=", "entityclip") not in selector.matchers
    ]
    assert wrong == []


def test_variables_that_are_used_are_declared(board: dict[str, Any]) -> None:
    declared = {variable["name"] for variable in board["templating"]["list"]} | BUILT_IN
    used = {name for _, target in queries(board) for name in _VARIABLE.findall(target["expr"])}
    assert used <= declared


def test_a_choice_of_all_takes_series_without_the_label(board: dict[str, Any]) -> None:
    chosen = {
        variable["name"]: variable["allValue"]
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    }
    assert chosen == dict.fromkeys((*CHOICES, "gpu_host"), ".*")


def test_no_query_divides_by_zero(board: dict[str, Any]) -> None:
    unguarded = []
    for title, target in queries(board):
        divisors = _divisors(promql_parser.parse(promql.without_variables(target["expr"])))
        unguarded += [(title, divisor) for divisor in divisors if not divisor.endswith("> 0)")]
    assert unguarded == []


def test_no_quantile_of_nothing_is_drawn(board: dict[str, Any]) -> None:
    wrong = [
        (title, target["expr"])
        for title, target in queries(board)
        if "histogram_quantile" in target["expr"] and not target["expr"].endswith(">= 0")
    ]
    assert wrong == []


def test_panel_ids_are_unique(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    overlapping = [
        (first["title"], second["title"])
        for first, second in combinations(board["panels"], 2)
        if _overlap(first["gridPos"], second["gridPos"])
    ]
    assert overlapping == []


def test_panels_stay_within_the_grid(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)


def test_every_line_of_the_grid_is_full(board: dict[str, Any]) -> None:
    taken: dict[int, int] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        taken[place["y"]] = taken.get(place["y"], 0) + place["w"]
    assert {y: width for y, width in taken.items() if width != COLUMNS} == {}


def test_every_heading_has_panels(board: dict[str, Any]) -> None:
    kinds = [panel["type"] for panel in board["panels"]]
    assert ("row", "row") not in list(pairwise([*kinds, "row"]))


def test_titles_are_unique_within_a_row(board: dict[str, Any]) -> None:
    titles: list[tuple[str, str]] = []
    heading = ""
    for panel in board["panels"]:
        heading = panel["title"] if panel["type"] == "row" else heading
        titles.append((heading, panel["title"] if panel["type"] != "row" else ""))
    assert len(titles) == len(set(titles))


def test_units_are_known_to_grafana(board: dict[str, Any]) -> None:
    units = {panel["fieldConfig"]["defaults"]["unit"] for panel in graphs(board)}
    assert {unit for unit in units if unit not in UNITS and not re.fullmatch(r"suffix:\S+", unit)} == set()


def test_every_panel_says_what_a_good_value_is_and_what_a_bad_one_means(board: dict[str, Any]) -> None:
    silent = [panel["title"] for panel in graphs(board) if not _explains(panel["description"])]
    assert silent == []


def _explains(description: str) -> bool:
    _, good, rest = description.partition("Good")
    return bool(good) and len(re.findall(r"[.:]\s", rest)) >= 2


def _overlap(first: dict[str, int], second: dict[str, int]) -> bool:
    return all(
        first[start] < second[start] + second[size] and second[start] < first[start] + first[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def _divisors(expression: promql_parser.Expr) -> list[str]:
    found: list[str] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "/":
            found.append(str(node.rhs))

    promql_parser.walk(expression, visit)
    return found
