"""Every panel's query on a real Prometheus, which scrapes metrics of the names and labels that the code exports."""

import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import dashboards
from splitray.dashboards import ROWS
from splitray.executor import metrics

PROGRAM = shutil.which("prometheus")
QUERIES = {query.expr: panel.title for row in ROWS for panel in row.panels for query in panel.queries}
BEGAN = time.time()

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Debian's package prometheus")


def exposition() -> str:
    """What a node of a cluster exports: one run, two workers, in Prometheus's text format."""
    lines = []
    for metric in (*metrics.BY_WORKER, *metrics.BY_DRIVER):
        lines.append(f"# TYPE {metric.exported} {metric.kind}")
        for number in (1, 2):
            values = {"run": "demo", "worker": f"ladder[{number}]", "source": "sea", "params": "1000"}
            values |= {"stage": "ladder", "purpose": "ladder", "device": "GPU", "currency": "USD"}
            labels = ",".join(f'{tag}="{values[tag]}"' for tag in metric.tags)
            process = f'WorkerId="{number}"' + ("," if labels else "")
            value = 100.0 * number * (time.time() - BEGAN) if metric.kind == "counter" else float(number)
            lines.append(f"{metric.exported}{{{process}{labels}}} {value}")
    lines.append('ray_node_gpus_utilization{GpuIndex="0"} 50')
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dashboards.Prometheus]:
    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    node = ThreadingHTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=node.serve_forever, daemon=True).start()
    folder: Path = tmp_path_factory.mktemp("prometheus")
    assert PROGRAM is not None
    with dashboards.prometheus(PROGRAM, folder, node.server_port) as url:
        began = time.time()
        until = began + 60
        while time.time() < until:
            now = dashboards.Prometheus(url, began - 5, time.time())
            if sum(len(points) for _, points in now.series("rate(ray_splitray_tokens_total[16s])")) >= 4:
                break
            time.sleep(1.0)
        yield dashboards.Prometheus(url, began - 5, time.time())
    node.shutdown()


@pytest.mark.parametrize("expr", QUERIES, ids=lambda expr: QUERIES[expr])
def test_a_panel_returns_data(server: dashboards.Prometheus, expr: str) -> None:
    assert server.series(dashboards.filled(expr)), expr


def test_two_processes_of_one_run_are_not_added(server: dashboards.Prometheus) -> None:
    """A driver that was killed leaves its last numbers for a while, beside those of the start after it."""
    (held,) = server.series('sum (max by (run, purpose, device) (ray_splitray_hours_held{run=~".*"}))')
    assert held[1][-1][1] == 2.0


def test_tokens_of_all_workers_are_added(server: dashboards.Prometheus) -> None:
    (row,) = (row for row in ROWS if row.title == "Training")
    (query,) = next(panel for panel in row.panels if panel.title == "Tokens per second").queries
    ((labels, points),) = server.series(dashboards.filled(query.expr))
    alone = dict(server.series(dashboards.filled('rate(ray_splitray_tokens_total{worker="ladder[1]"}[$window])'))[0][1])
    both = dict(points)
    assert labels == {"source": "sea"} and len(both) > 1
    assert [both[at] for at in both] == pytest.approx([3 * alone[at] for at in both], rel=0.05)
