"""A real Prometheus watches a real worker do the demo: what dashboard and alerts ask, it can answer.

Labels are as in compose: nobody sets `namespace` and `release`.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import promql_parser
import pytest

from tests.deploy import promql
from tests.deploy.installation import running
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_dashboard import FOREIGN, PATH, queries
from tests.deploy.tools import PROMETHEUS, tool
from tests.fault.cluster import POSTS, Cluster, Worker, until
from tests.fault.planted import Post
from tests.image_server import ImageServer
from tests.redis_server import need_redis_server

SETTINGS: Final = """
llm.usd_per_million_prompt_tokens = 1
llm.usd_per_million_completion_tokens = 2
fetch.allow_networks = ["127.0.0.1/32"]
"""
ADDED: Final = 12  # posts whose entities the LLM must explain
_COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
_SET_OPERATORS: Final = frozenset({"and", "or", "unless"})
_OFFSET: Final = re.compile(r" offset \w+")


@dataclass(frozen=True, slots=True)
class Watched:
    """A worker that has done its work, and who watched it."""

    prometheus: Prometheus
    cluster: Cluster
    worker: Worker


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The demo's posts and some more are through, and every rule was evaluated since."""
    tool(PROMETHEUS)
    need_redis_server()
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        host = stack.enter_context(ImageServer())
        cluster = stack.enter_context(running(Cluster(folder / "cluster", settings=SETTINGS)))
        worker = cluster.start_worker()
        target = f"127.0.0.1:{worker.port}"
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", target))
        worker.wait_ready()
        until(lambda: prometheus.value("entityclip_ready") == 1, 30, "not scraped")
        send_demo(cluster, worker)
        cluster.produce(more_posts(host))
        cluster.wait_for_outcomes(len(cluster.records(POSTS)), 120)
        wait_for_rules(prometheus, worker)
        yield Watched(prometheus, cluster, worker)


def send_demo(cluster: Cluster, worker: Worker) -> None:
    """`entityclip demo --send`, with the worker's configuration."""
    config = worker.folder / "worker.toml"
    command = [sys.executable, "-m", "worker.cli.main", "demo", "--send", f"kafka:{POSTS}"]
    environment = os.environ | {"PYTHONPATH": str(promql.ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--config", str(config)], check=True, env=environment, timeout=120)


def more_posts(host: ImageServer) -> list[Post | tuple[bytes, bytes | None]]:
    """What the demo has none of: posts for the LLM, the same text twice, images at addresses."""
    texts: list[Post] = [
        {"id": f"unexplained-{number}", "text": f"Ministers of Chad met again on day {number // 2}."}
        for number in range(ADDED)
    ]
    return [*texts, *({"id": f"fetched-{n}", "images": [{"url": host.url("/image.jpg")}]} for n in range(3))]


def wait_for_rules(prometheus: Prometheus, worker: Worker) -> None:
    """Wait until what the worker counted last was scraped, and every rule was evaluated after that."""
    done = worker.metrics()["entityclip_outcomes_total"]
    until(lambda: prometheus.value("sum(entityclip_outcomes_total)") == done, 30, "the end is not scraped")
    scraped = prometheus.value("time()")
    until(lambda: oldest_evaluation_s(prometheus) > scraped + 1, 30, "the rules are not evaluated")


def oldest_evaluation_s(prometheus: Prometheus) -> float:
    """When the rule that was evaluated longest ago was, in seconds of the epoch."""
    moments = [datetime.fromisoformat(rule["lastEvaluation"]) for rule in prometheus.rules()]
    return min(moment.timestamp() for moment in moments)


def panel_expressions() -> list[tuple[str, str]]:
    """(title, expression) of every panel's queries, as Grafana would send them."""
    board = json.loads(PATH.read_text(encoding="utf-8"))
    return [(title, as_sent(target["expr"])) for title, target in queries(board)]


def as_sent(expression: str) -> str:
    """The expression with "All" chosen everywhere and the whole run shown."""
    times = expression.replace("$__rate_interval", "5m").replace("$__range", "5m")
    return re.sub(r"\$\w+", ".*", times)


def alerts() -> list[tuple[str, str]]:
    """(name, expression) of every alert."""
    return [(rule["alert"], rule["expr"]) for rule in promql.rules() if "alert" in rule]


def left_hand_sides(expression: promql_parser.Expr) -> Iterator[str]:
    """What an alert compares, without the comparison: all that must have a value for it to fire.

    Of conditions that are joined, each; of `absent(x)`, `x`. What is looked up a day back is looked up now.
    """
    inner = getattr(expression, "expr", None)
    if isinstance(expression, promql_parser.BinaryExpr) and str(expression.op) in _SET_OPERATORS:
        yield from left_hand_sides(expression.lhs)
        yield from left_hand_sides(expression.rhs)
    elif isinstance(expression, promql_parser.BinaryExpr) and str(expression.op) in _COMPARISONS:
        yield from left_hand_sides(expression.lhs)
    elif isinstance(expression, promql_parser.Call) and expression.func.name == "absent":
        yield from left_hand_sides(expression.args[0])
    elif isinstance(inner, promql_parser.BinaryExpr | promql_parser.ParenExpr):
        yield from left_hand_sides(inner)
    else:
        yield _OFFSET.sub("", str(expression))


@pytest.mark.parametrize(
    ("expression", "sides"),
    [
        ("rate(a[5m]) > 3", ["rate(a{}[5m])"]),
        ("a > 3 and b == 0 unless c < 1", ["a{}", "b{}", "c{}"]),
        ("absent(a)", ["a{}"]),
        ("sum by (x) (a > 0 or b > 0) > 0", ["a{}", "b{}"]),
        ("a < 0.3 * b offset 1d", ["a{}"]),
        ("increase(a[30m] offset 1d) > 100", ["increase(a{}[30m])"]),
    ],
)
def test_what_an_alert_compares_is_read_off_its_expression(expression: str, sides: list[str]) -> None:
    assert list(left_hand_sides(promql_parser.parse(expression))) == sides


def test_the_worker_is_scraped_under_the_labels_of_compose(watched: Watched) -> None:
    targets = watched.prometheus.targets()
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
    assert targets[0]["labels"]["job"] == "entityclip"


def test_every_rule_is_evaluated_without_an_error(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    assert len(rules) == len(promql.rules())
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_every_recording_rule_gives_a_number(watched: Watched) -> None:
    values = {name: watched.prometheus.value(name) for name in promql.recorded_names()}
    assert {name for name, value in values.items() if math.isnan(value)} == set()


def test_every_selector_of_a_panel_finds_its_series(watched: Watched) -> None:
    missing = _without_series(watched.prometheus, panel_expressions())
    assert {(title, name) for title, name in missing if name not in FOREIGN} == set()


def test_only_gpu_panels_ask_for_series_that_are_not_there(watched: Watched) -> None:
    missing = {name for _, name in _without_series(watched.prometheus, panel_expressions())}
    assert missing == set(FOREIGN)  # no exporter of NVIDIA's, and no alert fires


def test_every_selector_of_an_alert_finds_its_series(watched: Watched) -> None:
    expressions = [(name, _OFFSET.sub("", expression)) for name, expression in alerts()]
    assert _without_series(watched.prometheus, expressions) == set()


def test_every_panel_is_answered_without_an_error_or_a_warning(watched: Watched) -> None:
    answers = [(title, watched.prometheus.query(expression)) for title, expression in panel_expressions()]
    assert [(title, a.error, a.notes) for title, a in answers if a.error or a.notes] == []


def test_no_panel_draws_what_is_no_number(watched: Watched) -> None:
    answers = [(title, watched.prometheus.query(expression)) for title, expression in panel_expressions()]
    samples = [(title, sample.value) for title, answer in answers for sample in answer.samples]
    assert [title for title, value in samples if not math.isfinite(value)] == []


def test_every_panel_shows_something_after_the_demo(watched: Watched) -> None:
    empty = {
        title
        for title, expression in panel_expressions()
        if not watched.prometheus.query(expression).samples
        if {selector.name for selector in promql.selectors(expression)}.isdisjoint(FOREIGN)
    }
    assert empty == set()


@pytest.mark.parametrize(("name", "expression"), alerts())
def test_what_an_alert_compares_has_a_value(watched: Watched, name: str, expression: str) -> None:
    sides = list(left_hand_sides(promql_parser.parse(expression)))
    values = {side: watched.prometheus.value(side) for side in sides}
    assert sides
    assert {side for side, value in values.items() if math.isnan(value)} == set()


def test_no_alert_fires_at_a_worker_that_is_well(watched: Watched) -> None:
    states = {
        rule["name"]: rule["state"] for rule in watched.prometheus.rules() if rule["type"] == "alerting"
    }
    assert {name for name, state in states.items() if state == "firing"} == set()


def _without_series(prometheus: Prometheus, expressions: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """(where, metric) of every selector that picks nothing."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for where, expression in expressions:
        for selector in _selectors(expression):
            wanted.setdefault((where, selector.name), set()).add(str(selector))
    return {
        place
        for place, selectors in wanted.items()
        for selector in selectors
        if not prometheus.query(selector).samples
    }


def _selectors(expression: str) -> list[Any]:
    found: list[Any] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
