"""What the trackers of a run have: TensorBoard in a browser, and MLflow's store read back.

    python -m benchmarks.dashboards --set "trackers=[{name: jsonl}, {name: tensorboard}, {name: mlflow}]" --keep FOLDER
    python -m benchmarks.tensorboard_page FOLDER/run

TensorBoard shows the run's event files to Debian's `chromium`, without a window. Every curve that TensorBoard's own
server gives out, and every metric that MLflow's store gives back, is compared with the looks of the tracker `jsonl`,
point by point. Written are `trackers.json` and `tensorboard.png`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from benchmarks.dashboards import started, until_up
from benchmarks.machine import describe
from tests.support.ports import free_port

Curves = dict[str, dict[int, float]]  # by name, values by token
FIELDS = ("loss", "learning_rate", "tokens_per_second")
KEPT = (
    100_000  # points of a curve that TensorBoard keeps: more than any run here has; at 0, TensorBoard 2.21 keeps none
)
CLOSE = 1e-6  # relative: event files hold single precision
_LOADED = 60.0  # seconds in which TensorBoard must have read its files
_PATIENCE = 90.0  # seconds of the browser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with the trackers jsonl, tensorboard and mlflow")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/trackers"))
    options = parser.parse_args()
    trackers = options.run / "trackers"
    expected = looks(trackers / "jsonl" / "metrics.jsonl")
    options.out.mkdir(parents=True, exist_ok=True)
    shown = tensorboard(trackers / "tensorboard", expected, options.out / "tensorboard.png")
    stored = mlflow(trackers / "mlflow")
    result: dict[str, Any] = {
        "machine": describe(),
        "curves": len(expected),
        "points": sum(len(points) for points in expected.values()),
        "tensorboard": compared(expected, shown),
        "mlflow": compared({plain(name): points for name, points in expected.items()}, stored),
    }
    (options.out / "trackers.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if any(result[name]["lacking"] or result[name]["different"] for name in ("tensorboard", "mlflow")):
        sys.exit("a tracker does not have what the run has told it")


def looks(file: Path) -> Curves:
    """What the run has told its trackers, by `FIELD/SERIES`; of a place that was passed twice, the later."""
    found: Curves = defaultdict(dict)
    for line in file.open():
        look = json.loads(line)
        for field in FIELDS:
            if field in look:
                found[f"{field}/{look['series']}"][int(look["tokens"])] = float(look[field])
    return dict(found)


def compared(expected: Curves, found: Curves) -> dict[str, Any]:
    """How many points agree, and the names of curves that lack or differ."""
    lacking = sorted(name for name, points in expected.items() if points.keys() - found.get(name, {}).keys())
    pairs = [
        (name, value, found[name][tokens])
        for name, points in expected.items()
        for tokens, value in points.items()
        if tokens in found.get(name, {})
    ]
    different = sorted({name for name, value, other in pairs if abs(value - other) > CLOSE * abs(value)})
    return {"points": len(pairs), "lacking": lacking, "different": different}


def tensorboard(folder: Path, expected: Curves, picture: Path) -> Curves:
    """Every curve as TensorBoard's server gives it; the page as the browser shows it goes to `picture`."""
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("there is no chromium: apt-get install chromium")
    port = free_port()
    # from the folder above: the page shows the path that it is given
    command = ["env", "-C", str(folder.resolve().parent), sys.executable, "-m", "tensorboard.main"]
    command += ["--logdir", folder.name, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--samples_per_plugin", f"scalars={KEPT}", "--load_fast", "false"]
    with tempfile.TemporaryDirectory() as name, started(command, Path(name) / "tensorboard.log"):
        url = f"http://127.0.0.1:{port}"
        until_up(f"{url}/data/environment", Path(name) / "tensorboard.log")
        until = time.monotonic() + _LOADED
        found = served(url)
        while compared(expected, found)["lacking"] and time.monotonic() < until:  # it answers before it has read
            time.sleep(1.0)
            found = served(url)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += [f"--user-data-dir={name}/browser", "--window-size=1250,1000", "--virtual-time-budget=30000"]
        # this tab draws its lines as SVG; those of the first tab are not in a picture taken without a window
        page = f"{url}/#scalars&_smoothingWeight=0&tagFilter={quote(f'^loss/{largest(expected)}-')}"
        subprocess.run([browser, *flags, f"--screenshot={picture.resolve()}", page], check=True, timeout=_PATIENCE)
    return found


def largest(curves: Curves) -> str:
    """The size that was trained on the most tokens, as the names of curves have it."""
    name = max((name for name in curves if name.startswith("loss/")), key=lambda name: max(curves[name]))
    return name.removeprefix("loss/").partition("-")[0]


def served(url: str) -> Curves:
    """Every curve that TensorBoard's server has read by now."""
    found: Curves = {}
    for run, tags in get(f"{url}/data/plugin/scalars/tags", {}).items():
        for tag in tags:
            points = get(f"{url}/data/plugin/scalars/scalars", {"run": run, "tag": tag})
            found.setdefault(tag, {}).update({int(step): float(value) for _, step, value in points})
    return found


def get(url: str, asked: Mapping[str, str]) -> Any:
    with urllib.request.urlopen(f"{url}?{urlencode(asked)}", timeout=30) as answer:
        return json.load(answer)


def mlflow(folder: Path) -> Curves:
    """Every metric of the one run in MLflow's store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    (experiment,) = (each for each in client.search_experiments() if each.name == "splitray")
    (run,) = client.search_runs([experiment.experiment_id])
    return {
        name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
        if name.startswith(FIELDS)
    }


def plain(name: str) -> str:
    """A name as MLflow takes it."""
    return "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)


if __name__ == "__main__":
    main()
