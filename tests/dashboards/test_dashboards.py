"""The dashboard against what the code exports, against Grafana's schema, and as the command writes it."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.util.metrics
from ray.dashboard.modules.reporter import reporter_agent

from splitray.cli.main import main
from splitray.dashboards import ROWS, dashboard
from splitray.executor import metrics, worker
from splitray.executor.worker import Meter, RunContext
from splitray.pipeline.metering import Gauges
from splitray.results.ledger import DeviceTime, Price, StageSpending, StartRecord
from splitray.results.stages import LadderResult, StageRecord
from splitray.runtime.progress import PROGRESS, Progress
from splitray.storage.store import Store
from splitray.training.loop import Progress as Trained
from splitray.training.tree import Leaf
from tests.support import tiny

PANELS = [panel for row in ROWS for panel in row.panels]
QUERIES = [query.expr for panel in PANELS for query in panel.queries]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The series that are set while the block lasts: names in Prometheus, with their labels."""
    seen: dict[str, set[str]] = {}

    def record(ending: str) -> Any:
        def take(self: Any, value: float, tags: dict[str, str] | None = None) -> None:
            assert set(tags or {}) == set(self._tag_keys), self._name  # Ray refuses what differs
            seen.setdefault(f"ray_{self._name}{ending}", set()).update(tags or {})

        return take

    monkeypatch.setattr(ray.util.metrics.Gauge, "set", record(""))
    monkeypatch.setattr(ray.util.metrics.Counter, "inc", record("_total"))
    return seen


class Coordinator:
    """Takes the notes of a meter; nobody listens."""

    note = type("Method", (), {"remote": staticmethod(lambda *given: None)})


def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers and the driver export of a run, by the code that does it."""
    segment = tiny.segments(tiny.make_recipe(), Leaf(16 * 64))[0]
    monkeypatch.setattr(worker, "coordinator_of", lambda namespace: Coordinator)
    monkeypatch.setattr(worker, "peak_flops", lambda gpu: 1e15)
    context = RunContext(
        Store(tmp_path), "c", tiny.training(), "n", run="t", flops_per_token={segment.recipe.params: 1e6}
    )
    meter = Meter(context, "ladder[0]")
    for step in (1, 2):
        meter(Trained(segment, 64 * step, 64 * step, 3.0, 1e-3, 100.0, 0.1 * step, 0.2 * step, 1.5, 10**9))
    gauges = Gauges("t", [])
    begins = logging.LogRecord("splitray", logging.INFO, "x", 1, "stage", (), None)
    begins.stage = "ladder"
    looks = logging.LogRecord("splitray", PROGRESS, "x", 1, "look", (), None)
    looks.progress = Progress("training", "half", share=0.5, left=10.0)
    ends = logging.LogRecord("splitray", logging.INFO, "x", 1, "done", (), None)
    ends.ended = StageRecord("ladder", 0.0, 1.0, None, LadderResult(1, 1, 1, 1, 1.0, 1), {})
    for record in (begins, looks, ends):
        gauges.emit(record)
    time = DeviceTime("ladder", "GPU", 3600.0, 1800.0, 3.6e6)
    stage = StageSpending("ladder", 1.0, 10, failures=2, devices=(time,), provisioned=7200.0)
    gauges.spent(StartRecord("1", 0.0, 1.0, None, "0", (stage,), Price("GPU", 2.0, "USD", "x")))


def test_every_query_names_metrics_and_labels_that_the_code_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: dict[str, set[str]]
) -> None:
    a_run(tmp_path, monkeypatch)
    assert set(exported) == {metric.exported for metric in (*metrics.BY_WORKER, *metrics.BY_DRIVER)}
    for metric in (*metrics.BY_WORKER, *metrics.BY_DRIVER):
        assert exported[metric.exported] == set(metric.tags), metric.name
    by_ray = {f"ray_{n}": {str(tag) for tag in g._view.columns} for n, g in reporter_agent.METRICS_GAUGES.items()}
    known = exported | {name: tags | {"instance"} for name, tags in by_ray.items()}  # which Prometheus adds
    for expr in QUERIES:
        names = re.findall(r"\bray_\w+", expr)
        assert names and set(names) <= set(known), expr
        labels = {label for group in re.findall(r"by \(([^)]*)\)", expr) for label in group.split(", ")}
        labels |= set(re.findall(r"[{,](\w+)=", expr))
        assert labels <= set.union(*(known[name] for name in names)), expr


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    """But the speed that a worker says itself: the dashboard has the rate of its tokens, which ends with the worker."""
    shown = {name for expr in QUERIES for name in re.findall(r"\bray_\w+", expr)}
    ours = {metric.exported for metric in (*metrics.BY_WORKER, *metrics.BY_DRIVER)}
    assert ours - shown == {metrics.TOKENS_PER_SECOND.exported}


# Grafana's schema of dashboards (kinds/dashboard/dashboard_kind.cue in its repository), as far as it is used here.
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
SOURCE = {"type": "object", "properties": {"type": TEXT, "uid": TEXT}, "additionalProperties": False}
GRID = {
    "type": "object",
    "required": ["h", "w", "x", "y"],
    "properties": {
        "h": {"type": "integer", "minimum": 1},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": WHOLE,
    },
    "additionalProperties": False,
}
FIELDS = {
    "type": "object",
    "required": ["defaults", "overrides"],
    "properties": {
        "defaults": {"type": "object", "properties": {"unit": TEXT, "min": {"type": "number"}}},
        "overrides": {"type": "array"},
    },
    "additionalProperties": False,
}
TARGET = {
    "type": "object",
    "required": ["refId", "expr", "datasource"],
    "properties": {"refId": {"pattern": "^[A-Z]$"}, "expr": TEXT, "legendFormat": TEXT, "datasource": SOURCE},
}
PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "gridPos"],
    "properties": {"id": {"type": "integer", "minimum": 1}, "type": TEXT, "title": TEXT, "gridPos": GRID},
    "if": {"properties": {"type": {"const": "row"}}},
    "then": {"required": ["collapsed", "panels"], "properties": {"collapsed": {"type": "boolean"}}},
    "else": {
        "required": ["datasource", "fieldConfig", "options", "targets"],
        "properties": {
            "type": {"enum": ["timeseries", "stat", "bargauge"]},
            "description": TEXT,
            "datasource": SOURCE,
            "fieldConfig": FIELDS,
            "options": {"type": "object"},
            "targets": {"type": "array", "minItems": 1, "items": TARGET},
        },
    },
}
VARIABLE = {
    "type": "object",
    "required": ["name", "type"],
    "properties": {
        "name": TEXT,
        "label": TEXT,
        "hide": {"enum": [0, 1, 2]},
        "type": {"enum": ["query", "adhoc", "constant", "datasource", "interval", "textbox", "custom", "system"]},
        "query": {"type": ["string", "object"]},
        "datasource": SOURCE,
    },
}
DASHBOARD = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "minLength": 8, "maxLength": 40},
        "title": TEXT,
        "description": TEXT,
        "tags": {"type": "array", "items": TEXT},
        "style": {"enum": ["light", "dark"]},
        "timezone": TEXT,
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "time": {"type": "object", "required": ["from", "to"]},
        "refresh": {"type": ["string", "boolean"]},
        "schemaVersion": WHOLE,
        "version": WHOLE,
        "panels": {"type": "array", "items": PANEL},
        "templating": {"type": "object", "properties": {"list": {"type": "array", "items": VARIABLE}}},
        "annotations": {"type": "object"},
    },
    "additionalProperties": False,
}


def test_the_json_fits_grafanas_schema() -> None:
    jsonschema.validate(json.loads(json.dumps(dashboard())), DASHBOARD)


def boxes(panels: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        yield from (
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        )


def test_panels_lie_beside_one_another_and_have_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    taken = list(boxes(panels))
    assert len(taken) == len(set(taken)), "two panels overlap"
    assert len({panel["id"] for panel in panels}) == len(panels) == len(PANELS) + len(ROWS)
    variables = {each["name"] for each in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used == variables, "a variable that is not defined shows nothing"


def test_the_command_writes_where_ray_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", str(tmp_path / "ray"))
    for arguments, folder in (([], "ray"), (["--to", str(tmp_path / "mine")], "mine")):
        assert main(["dashboards", *arguments]) == 0
        (file,) = (tmp_path / folder).iterdir()
        assert capsys.readouterr().out.strip() == str(file)
        assert json.loads(file.read_text()) == dashboard()
    assert main(["dashboards", "--print"]) == 0
    assert json.loads(capsys.readouterr().out)["uid"] == "splitrayRun"
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "--to", str(tmp_path / "file")]) == 2
