"""What PromQL expressions name, and what the worker declares: dashboards and alerts are held to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from worker.observe.metrics import Metrics
from worker.stages.chain import STAGES

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "chart" / "files" / "rules.yaml"
# Set by whoever scrapes or by the service monitor, on every series.
TARGET_LABELS: Final = frozenset({"job", "instance", "namespace", "pod", "container", "release"})
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
_OPERATORS: Final = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
_VARIABLE: Final = re.compile(r"\$(?:\w+|\{\w+(?::\w+)?\})")
_DURATIONS: Final = ("interval", "rate_interval", "range")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label of a selector.

    Args:
        op: `=`, `!=`, `=~` or `!~`.
    """

    name: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """What picks series in an expression; `name` is empty where only labels pick."""

    name: str
    matchers: tuple[Matcher, ...] = ()


def selectors(expression: str) -> list[Selector]:
    """Every selector of an expression, in its order; Grafana's variables may stand in it.

    Raises:
        ValueError: it is no PromQL.
    """
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(_selector(node))

    promql_parser.walk(promql_parser.parse(without_variables(expression)), visit)
    return found


def grouped_by(expression: str) -> list[frozenset[str]]:
    """The labels that each aggregation, matching or `group_left` of an expression names."""
    found: list[frozenset[str]] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.append(frozenset(node.modifier.labels))
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier:
            matching = node.modifier.matching
            labels = (*(matching.labels if matching else ()), *(node.modifier.group_labels or ()))
            found.append(frozenset(labels))

    promql_parser.walk(promql_parser.parse(without_variables(expression)), visit)
    return found


def without_variables(expression: str) -> str:
    """The expression with a value in the place of each of Grafana's variables (`$namespace`, `$__range`)."""

    def value(variable: re.Match[str]) -> str:
        name = variable.group().strip("${}").partition(":")[0].removeprefix("__")
        return "5m" if name in _DURATIONS else name

    return _VARIABLE.sub(value, expression)


def metric_names() -> dict[str, frozenset[str]]:
    """Every series name that a worker exposes, with its labels; the process's own among them."""
    metrics = Metrics(STAGES)
    metrics.lag.labels("news.posts", "0").set(0)  # their values are not known beforehand,
    metrics.serves("a model")  # and without a series there is no label
    names: dict[str, frozenset[str]] = {}
    for family in metrics.registry.collect():
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        for suffix in _SUFFIXES[family.type]:
            names[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return names


def rules(path: Path = RULES) -> list[dict[str, Any]]:
    """The rules of a rule file, of all its groups."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded_names(path: Path = RULES) -> frozenset[str]:
    """The series that a rule file records."""
    return frozenset(rule["record"] for rule in rules(path) if "record" in rule)


def undeclared(expressions: Iterable[str], recorded: Iterable[str] = ()) -> Iterator[str]:
    """What an expression selects that nobody declares, one line each.

    Args:
        recorded: series of recording rules; their labels are not looked at.
    """
    declared = metric_names() | {"up": frozenset[str]()}
    known = frozenset(recorded)
    for expression in expressions:
        for selector in selectors(expression):
            if selector.name in known:
                continue
            if selector.name not in declared:
                yield f"{selector.name or 'no metric'}: not declared, in {expression}"
                continue
            labels = {matcher.name for matcher in selector.matchers} - TARGET_LABELS
            for label in sorted(labels - declared[selector.name]):
                yield f"{selector.name}: has no label {label}, in {expression}"


def _selector(node: promql_parser.VectorSelector) -> Selector:
    alternatives = (node.matchers.matchers, *node.matchers.or_matchers)
    matchers = [
        Matcher(each.name, _OPERATORS[str(each.op)], each.value) for each in chain.from_iterable(alternatives)
    ]
    name = node.name or next((each.value for each in matchers if each.name == "__name__"), "")
    return Selector(name, tuple(each for each in matchers if each.name != "__name__"))
