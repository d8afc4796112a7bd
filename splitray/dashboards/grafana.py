"""The dashboard as the JSON that Grafana reads, from version 9 on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from splitray.dashboards.panels import ROWS, Panel
from splitray.errors import UserError
from splitray.executor import metrics

NAME = "splitray_grafana_dashboard.json"
UID = "splitrayRun"
_WIDTH, _COLUMNS, _HEIGHT = 24, 2, 8  # of Grafana's grid; panels side by side; units of a panel
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 36  # of Grafana 9; newer ones migrate it when they load it


def dashboard() -> dict[str, Any]:
    """The dashboard of a run, as plain JSON types."""
    return {
        "uid": UID,
        "title": "splitray",
        "description": "A run of splitray: progress, training, where time goes, and what it costs.",
        "tags": ["splitray", "ray"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "style": "dark",
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def write_dashboard(folder: Path) -> Path:
    """Write the dashboard into a folder that Grafana reads dashboards from; the file.

    Raises:
        UserError: the folder takes no file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / NAME
        path.write_text(json.dumps(dashboard(), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: the dashboard cannot be written there ({error.strerror})") from error
    return path


def _panels() -> Iterator[dict[str, Any]]:
    y, number = 0, 0
    width = _WIDTH // _COLUMNS
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
        }
        y += 1
        for place, panel in enumerate(row.panels):
            number += 1
            line, column = divmod(place, _COLUMNS)
            grid = {"h": _HEIGHT, "w": width, "x": column * width, "y": y + line * _HEIGHT}
            yield {"id": number, "gridPos": grid, **_panel(panel)}
        y += -(-len(row.panels) // _COLUMNS) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} | _limits(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": panel.kind == "timeseries",
                "instant": panel.kind != "timeseries",
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def _limits(panel: Panel) -> dict[str, Any]:
    return {"max": 1} if panel.unit == "percentunit" else {}


_LAST: dict[str, Any] = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": ["lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _LAST, "colorMode": "value", "graphMode": "area", "textMode": "auto"},
    "bargauge": {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic", "showUnfilled": True},
}


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
    query = f"label_values({metrics.STAGE_PROGRESS.exported}, run)"
    yield {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "hide": 0,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
    windows = ("30s", "1m", "5m", "15m")  # Ray's own Prometheus scrapes every 10 s, and a rate needs two scrapes
    yield {
        "name": "window",
        "label": "Averaged over",
        "type": "interval",
        "query": ",".join(windows),
        "options": [{"text": each, "value": each, "selected": each == "1m"} for each in windows],
        "current": {"text": "1m", "value": "1m", "selected": True},
        "auto": False,
        "hide": 0,
    }
