"""Every panel of the dashboard against a real Prometheus: `python -m benchmarks.dashboards`.

It starts a Ray of its own on this machine, a Prometheus that scrapes its metrics, and the demo on it. At the end it
runs the query of each panel over the whole run, and says which returned data. Then it compares what Prometheus has with
what the run itself wrote, within 5 %:

| in Prometheus | in the run folder |
|---|---|
| tokens, summed over worker processes | tokens spent by the ledger |
| hours held and used, money | the events of workers, added up to the same moment |
| workers lost | the ledger |
| the last loss of every source and size | the looks of the tracker `jsonl` up to the same moment |

Prometheus is Debian's package, unpacked or installed: `--prometheus` names its program. The result is
`benchmarks/results/dashboards/dashboards.json`.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import yaml

from benchmarks.machine import describe
from splitray.dashboards import ROWS
from splitray.executor import metrics
from splitray.pipeline.hours import hours_in
from splitray.pipeline.ledger import starts
from splitray.storage.folder import Folder
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
SCRAPE, REPORT = 2, 1  # seconds between scrapes, and between the reports of Ray's processes to its agent
LATE = 10.0  # seconds by which a number in Prometheus may be older than its timestamp
TOLERANCE = 0.05
STEP = 2  # seconds between the points of a query over the whole run
_UP = 120.0  # seconds in which a server must answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), help="Debian's program; default: on PATH")
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="as the job takes it")
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dashboards"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folder there as FOLDER/run")
    options = parser.parse_args()
    if options.prometheus is None:
        parser.error("there is no prometheus on the PATH: install Debian's package, or name its program")
    with tempfile.TemporaryDirectory(prefix="dash") as name:  # short: sockets lie below it
        folder = Path(name)
        with (
            ray_head(folder, options.cpus) as (address, scraped),
            prometheus(options.prometheus, folder, scraped) as url,
        ):
            began = time.time()
            job(folder, address, options.config, options.set)
            time.sleep(2 * SCRAPE)
            result = report(Prometheus(url, began, time.time()), folder / "run")
            if options.keep is not None:
                shutil.copytree(folder / "run", options.keep / "run", dirs_exist_ok=True)
    result = {"machine": describe("ray"), "config": Path(options.config).name, **result}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "dashboards.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if result["empty"] or not all(each["agrees"] for each in result["compared"]):
        sys.exit(1)


# what runs


@contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a group of its own, which ends with the block, whatever it has started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | environment, start_new_session=True, cwd=ROOT
        )
    try:
        yield process
    finally:
        for number, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


@contextmanager
def ray_head(folder: Path, cpus: int) -> Iterator[tuple[str, int]]:
    """A Ray of its own: its address, and the port of its metrics."""
    port, dashboard, scraped = (free_port() for _ in range(3))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--num-cpus", str(cpus), "--port", str(port), "--metrics-export-port", str(scraped)]
    command += ["--dashboard-port", str(dashboard), "--temp-dir", str(folder / "ray")]
    with started(command, folder / "ray.log", RAY_metrics_report_interval_ms=str(1000 * REPORT)):
        until_up(f"http://127.0.0.1:{scraped}/metrics", folder / "ray.log")
        yield f"127.0.0.1:{port}", scraped


@contextmanager
def prometheus(program: str, folder: Path, scraped: int) -> Iterator[str]:
    """A Prometheus that scrapes the port of Ray's metrics: its address."""
    port, config = free_port(), folder / "prometheus.yml"
    scrape = {"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}
    interval = f"{SCRAPE}s"
    config.write_text(
        yaml.safe_dump(
            {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": [scrape]}
        )
    )
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log"):
        url = f"http://127.0.0.1:{port}"
        until_up(f"{url}/-/ready", folder / "prometheus.log")
        yield url


def until_up(url: str, log: Path, token: str = "") -> None:
    """Wait until a server answers."""
    until = time.monotonic() + _UP
    asked = Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    while time.monotonic() < until:
        try:
            with urlopen(asked, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    sys.exit(f"{url} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def job(folder: Path, address: str, config: str, overrides: list[str]) -> None:
    """The main job, to its end."""
    settings = ["resources.price_per_hour=1.5", "trackers=[{name: jsonl}]", *overrides]
    command = [sys.executable, "jobs/split.py", "--config", config, "--run-dir", str(folder / "run")]
    for each in settings:
        command += ["--set", each]
    with started(command, folder / "job.log", RAY_ADDRESS=address) as process:
        if code := process.wait():
            sys.exit(f"the job ended with {code}:\n{(folder / 'job.log').read_text(errors='replace')[-2000:]}")


# what came out


@dataclass(frozen=True)
class Prometheus:
    """A server, and the time of the run in it, in seconds since the epoch."""

    url: str
    began: float
    ended: float

    def series(self, expr: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The series of a query over the run: labels, and points of time and value."""
        given = {"query": expr, "start": self.began, "end": self.ended, "step": STEP}
        with urlopen(f"{self.url}/api/v1/query_range?{urlencode(given)}", timeout=60) as answer:
            found = json.load(answer)["data"]["result"]
        return [(each["metric"], [(float(at), float(value)) for at, value in each["values"]]) for each in found]


def report(server: Prometheus, run: Path) -> dict[str, Any]:
    """Which panels have data, and what agrees with the run."""
    panels, empty = [], []
    for panel in (panel for row in ROWS for panel in row.panels):
        counts = [len(server.series(filled(query.expr))) for query in panel.queries]
        panels.append({"panel": panel.title, "series": counts, "needs": panel.needs})
        if not all(counts) and panel.needs in ("", "price"):
            empty.append(panel.title)
    compared = [*tokens(server, run), *hours(server, run), *restarts(server, run), *losses(server, run)]
    return {"seconds": server.ended - server.began, "panels": panels, "empty": empty, "compared": compared}


def filled(expr: str) -> str:
    """A panel's query with all runs, and averaged over some scrapes."""
    return expr.replace("$run", ".*").replace("$window", f"{8 * SCRAPE}s")


def comparison(what: str, seen: float, low: float, high: float) -> dict[str, Any]:
    """A number of Prometheus beside the least and the most that the run has for its moment."""
    agrees = low * (1 - TOLERANCE) <= seen <= high * (1 + TOLERANCE)
    return {"what": what, "prometheus": seen, "run": [low, high], "agrees": agrees}


def tokens(server: Prometheus, run: Path) -> Iterator[dict[str, Any]]:
    most = sum(max(value for _, value in points) for _, points in server.series(metrics.TOKENS.exported))
    spent = sum(stage.tokens for start in starts(Folder(run)) for stage in start.stages)
    yield comparison("tokens trained", most, spent, spent)


def hours(server: Prometheus, run: Path) -> Iterator[dict[str, Any]]:
    """Each at its last point: gauges go on with their last value when the driver has ended."""
    events = [json.loads(line) for file in sorted((run / "events").iterdir()) for line in file.open()]
    over = max(event["at"] for event in events)

    def held(part: str, at: float) -> float:
        seconds = [float(getattr(t, part)) for stage in hours_in(events, min(at, over)) for t in stage.devices]
        return sum(seconds) / 3600

    price = next(start.price for start in starts(Folder(run)) if start.price is not None).per_hour
    asked: tuple[tuple[str, metrics.Metric, Callable[[float], float]], ...] = (
        ("hours held", metrics.HOURS_HELD, lambda at: held("held", at)),
        ("hours used", metrics.HOURS_USED, lambda at: held("used", at)),
        ("money", metrics.MONEY, lambda at: held("held", at) * price),
    )
    for what, metric, reckon in asked:
        for _, points in server.series(f"sum(max by ({', '.join(metric.tags)}) ({metric.exported}))"):
            at, value = points[-1]
            yield comparison(what, value, reckon(at - LATE), reckon(at))


def restarts(server: Prometheus, run: Path) -> Iterator[dict[str, Any]]:
    lost = sum(stage.failures for start in starts(Folder(run)) for stage in start.stages)
    for _, points in server.series(f"sum(max by (run, stage) ({metrics.RESTARTS.exported}))"):
        yield comparison("workers lost", points[-1][1], lost, lost)


def losses(server: Prometheus, run: Path) -> Iterator[dict[str, Any]]:
    """The last point of every source and size that one worker alone had, by what `jsonl` has of it by then."""
    looks = [json.loads(line) for line in (run / "trackers/jsonl/metrics.jsonl").open()]
    for labels, points in server.series(f"min by (source, params) ({metrics.LOSS.exported})"):
        at, value = points[-1]
        known = [look["loss"] for look in looks if at - 10 * LATE <= look["at"] <= at and of(look, labels)]
        if known:
            yield comparison(f"loss of {labels['source']}, {labels['params']}", value, min(known), max(known))


def of(look: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a look of the tracker is at a model of this source and size, by the name of its curve."""
    from splitray.units import human

    size = human(int(labels["params"])).replace(" ", "")
    return str(look["series"]).startswith(f"{size}-{labels['source']}-")


if __name__ == "__main__":
    main()
