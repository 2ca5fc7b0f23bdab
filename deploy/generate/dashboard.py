"""The Grafana dashboard: `dashboard()` is what `deploy/chart/files/dashboard.json` holds."""

from __future__ import annotations

from typing import Any, Final

from deploy.generate.dashboard_flow import LAG, STAGES, THROUGHPUT
from deploy.generate.dashboard_json import Json, layout
from deploy.generate.dashboard_overview import OVERVIEW
from deploy.generate.dashboard_parts import DATASOURCE, FIRING
from deploy.generate.dashboard_process import GPU, PROCESS
from deploy.generate.dashboard_results import DEAD_LETTERS, MATCHES
from deploy.generate.dashboard_services import IMAGES, KAFKA, LLM, STORE
from deploy.generate.dashboard_weeks import WEEKS

ROWS: Final = (
    OVERVIEW, THROUGHPUT, LAG, STAGES, DEAD_LETTERS, MATCHES, LLM, IMAGES, STORE, GPU, KAFKA, PROCESS, WEEKS
)  # fmt: skip
SCHEMA_VERSION: Final = 42  # of the classic model, since Grafana 12
RUNBOOK: Final = "deploy/RUNBOOK.md"  # the alerts' runbook_url begins so too


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "id": None,
        "uid": "entityclip",
        "title": "EntityCLIP",
        "description": "News posts matched across text and picture: rate, lag, bottleneck, refusals, cost.",
        "tags": ["entityclip"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "fiscalYearStartMonth": 0,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "refresh": "30s",
        "annotations": {"list": [_built_in_annotations(), _alerts()]},
        "links": [_runbook_link()],
        "templating": {"list": _variables()},
        "panels": list(layout(ROWS)),
    }


def _variables() -> list[Json]:
    own = "entityclip_ready"
    chosen = 'namespace=~"$namespace"'
    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "regex": "",
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "refresh": 1,
        },
        _labels_variable("namespace", "Namespace", f"label_values({own}, namespace)"),
        _labels_variable("release", "Release", f"label_values({own}{{{chosen}}}, release)"),
        _labels_variable(
            "instance", "Worker", f'label_values({own}{{{chosen}, release=~"$release"}}, instance)'
        ),
        _labels_variable("gpu_host", "GPU host", "label_values(DCGM_FI_DEV_GPU_UTIL, Hostname)"),
        {
            "type": "textbox",
            "name": "runbook",
            "label": "Runbook",
            "description": f"Address of your copy of {RUNBOOK}, for the link above.",
            "query": RUNBOOK,
            "current": {"selected": True, "text": RUNBOOK, "value": RUNBOOK},
            "hide": 0,
            "options": [],
        },
    ]


def _labels_variable(name: str, label: str, query: str) -> Json:
    """A choice of label values; "All" takes series without the label too."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": dict(DATASOURCE),
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "regex": "",
        "hide": 0,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "refresh": 2,  # when the chosen time changes: workers come and go
        "sort": 1,
    }


def _built_in_annotations() -> Json:
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _alerts() -> Json:
    return {
        "datasource": dict(DATASOURCE),
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "name": "Alerts",
        "target": {"expr": FIRING, "interval": "", "refId": "Anno"},
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}}",
        "tagKeys": "severity,namespace,release",
    }


def _runbook_link() -> Json:
    return {
        "type": "link",
        "title": "Runbook",
        "tooltip": "What each alert means, how to tell, what to do; the variable Runbook says where it lies",
        "icon": "doc",
        "url": "${runbook}",
        "targetBlank": True,
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "tags": [],
    }
