"""What a dashboard is built of: panels and rows as values, and the expressions that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["timeseries", "stat", "bargauge", "heatmap"]
Step = tuple[float, str]  # from this value on, this colour

# Every label of a target that the dashboard's variables choose by; a matcher that takes anything also takes
# a series without the label, as there are where nobody sets `namespace` and `release`.
TARGETS: Final = 'namespace=~"$namespace", release=~"$release", instance=~"$instance"'
# Prometheus' own series about alerts; not every alert is about one instance.
FIRING: Final = (
    'ALERTS{alertname=~"Entityclip.*", alertstate="firing", namespace=~"$namespace", release=~"$release"}'
)
DATASOURCE: Final[Mapping[str, str]] = {"type": "prometheus", "uid": "${datasource}"}
OURS: Final = 'job="entityclip"'  # for metrics that every process has
POSTS_A_SECOND: Final = "suffix:posts/s"
SHARE: Final = "percentunit"
RED: Final = "red"
ORANGE: Final = "orange"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel.

    Args:
        legend: the name of each of its lines, in Grafana's `{{label}}` form.
        instant: ask for the value at the end of the chosen time only; for what adds up a long time, or picks
            the largest.
    """

    expression: str
    legend: str
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Args:
        description: what is shown, which value is good, what a bad one means.
        unit: an id of Grafana's units, or `suffix:…`.
        steps: where a value begins to be bad; drawn as a line in a graph, as a colour elsewhere.
        stacked: one line on top of the other, for parts of a whole.
        logarithmic: the axis; for what spans powers of ten.
        named: say the line's name beside its value; for a `stat`.
        top: of the axis or the bar; none for what the values need.
        decimals: none for what the values need.
        without_data: what stands there in place of "No data".
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    steps: Sequence[Step] = ()
    stacked: bool = False
    logarithmic: bool = False
    named: bool = False
    top: float | None = None
    decimals: int | None = None
    without_data: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and what stands below it."""

    title: str
    panels: Sequence[Panel]


def select(metric: str, *matchers: str) -> str:
    """The metric's series of the chosen targets."""
    return f"{metric}{{{', '.join((*matchers, TARGETS))}}}"


def rate(metric: str, *matchers: str) -> str:
    """What a counter grows by, a second."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def total_rate(metric: str, *matchers: str, by: str = "") -> str:
    """The same of all targets together, apart by the labels `by`."""
    return f"{_sum(by)}({rate(metric, *matchers)})"


def ratio(part: str, whole: str) -> str:
    """Part by whole; nothing at all where the whole is 0, in place of NaN."""
    return f"{part} / ({whole} > 0)"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """A quantile of what was observed; nothing at all, in place of NaN, where nothing was."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {total_rate(f'{histogram}_bucket', by=labels)}) >= 0"


def recent(metric: str, *matchers: str, by: str = "") -> str:
    """How often it happened in the last ten minutes; for what is too rare for a rate to be read."""
    return f"{_sum(by)}(increase({select(metric, *matchers)}[10m]))"


def mean(histogram: str, by: str = "") -> str:
    """The mean of what was observed; nothing at all where nothing was."""
    return ratio(total_rate(f"{histogram}_sum", by=by), total_rate(f"{histogram}_count", by=by))


def quantiles(histogram: str, shares: Iterable[float] = (0.5, 0.95, 0.99)) -> list[Query]:
    """A line for each quantile."""
    return [Query(quantile(share, histogram), f"p{share * 100:g}") for share in shares]


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
