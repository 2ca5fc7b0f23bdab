"""Panels and rows as Grafana's JSON, each at its place.

It is the classic model, which Grafana's provisioning and the sidecar that looks for dashboards read in every
version. The newer one puts its panels elsewhere and would lose those who run an older Grafana.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Final

from deploy.generate.dashboard_parts import DATASOURCE, Panel, Query, Row

Json = dict[str, Any]

COLUMNS: Final = 24  # of Grafana's grid
_BASE_COLOUR: Final = "green"


def layout(rows: Iterable[Row]) -> Iterator[Json]:
    """Every row and panel at its place: left to right, a new line where the width is used up."""
    ids = count(1)
    y = 0
    for row in rows:
        yield _row_json(row, next(ids), y)
        y += 1
        x, line_height = 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            yield _panel_json(panel, next(ids), x, y)
            x, line_height = x + panel.width, max(line_height, panel.height)
        y += line_height


def _row_json(row: Row, number: int, y: int) -> Json:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
    return {
        "type": "row",
        "id": number,
        "title": row.title,
        "collapsed": False,
        "gridPos": place,
        "panels": [],
    }


def _panel_json(panel: Panel, number: int, x: int, y: int) -> Json:
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": dict(DATASOURCE),
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "targets": [_target(panel, query, chr(ord("A") + at)) for at, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind](panel),
        "transparent": False,
    }


def _target(panel: Panel, query: Query, letter: str) -> Json:
    return {
        "refId": letter,
        "datasource": dict(DATASOURCE),
        "editorMode": "code",
        "expr": query.expression,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "instant": query.instant,
        "range": not query.instant,
        "legendFormat": query.legend,
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": _BASE_COLOUR, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.steps]
    defaults: Json = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.top is not None:
        defaults["max"] = panel.top
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.without_data:
        defaults["noValue"] = panel.without_data
    if panel.kind == "timeseries":
        defaults["custom"] = _line_style(panel)
    if panel.logarithmic:
        del defaults["min"]  # a logarithm has no 0
    return defaults


def _line_style(panel: Panel) -> Json:
    scale = {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"}
    return {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
        "scaleDistribution": scale,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
    }


def _graph_options(panel: Panel) -> Json:
    return {
        "legend": {
            "showLegend": True,
            "displayMode": "list",
            "placement": "bottom",
            "calcs": ["lastNotNull"] if len(panel.queries) > 1 else [],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _value_options(panel: Panel) -> Json:
    return {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "value_and_name" if panel.named else "value",
        "wideLayout": True,
    }


def _bar_options(panel: Panel) -> Json:
    return {
        "displayMode": "gradient",
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }


def _heat_options(panel: Panel) -> Json:
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "scale": "exponential",
            "exponent": 0.5,
            "reverse": False,
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit},
    }


_OPTIONS: Final = {
    "timeseries": _graph_options,
    "stat": _value_options,
    "bargauge": _bar_options,
    "heatmap": _heat_options,
}
