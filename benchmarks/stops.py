"""SIGTERM, SIGINT and SIGHUP to the driver in every stage of a small run: what came out.

    python -m benchmarks.stops [--signals SIGTERM SIGINT SIGHUP] [--stages corpus ladder ...] [--out FILE]

Where RAY_ADDRESS is set, the runs join that cluster; else each starts its own. For every signal one run is started
again after each stop, so that it comes through all stages, and is signalled half a second after each began. A row says
how the driver ended: its exit code, whether the documented line was its last, the seconds from signal to end, and
whether a traceback was printed. At the end the run must finish.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from splitray.cli.signals import LINE
from splitray.pipeline.run_folder import STAGES
from tests.support.configs import config, write_corpus

ROOT = Path(__file__).resolve().parent.parent


def begun(run: Path, stage: str, since: float) -> bool:
    """Whether this start of the run has logged the stage's beginning."""
    log = run.parent / "log.txt"
    return f"== {stage}\n" in log.read_text() and log.stat().st_mtime >= since


def stopped_in(home: Path, run: Path, stage: str, number: signal.Signals) -> dict[str, Any]:
    """Start the run, signal its driver soon after the stage began, and tell how it ended."""
    command = [sys.executable, ROOT / "jobs/split.py", "--config", home / "small.yaml", "--run-dir", run]
    log, since = run.parent / "log.txt", time.time()
    with log.open("w") as out:
        job = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while job.poll() is None and not begun(run, stage, since):
            time.sleep(0.02)
        time.sleep(0.5)
        reached, at = job.poll() is None, time.monotonic()
        job.send_signal(number)
        code = job.wait()
    lines = log.read_text().splitlines()
    return {
        "signal": number.name,
        "stage": stage,
        "reached": reached,
        "code": code,
        "line": bool(lines) and lines[-1] == LINE,
        "traceback": any("Traceback" in line or "SystemError" in line for line in lines),
        "seconds": round(time.monotonic() - at, 1),
        "checkpoints": len(list(run.parent.glob("store/done/part-*"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signals", nargs="+", default=["SIGTERM", "SIGINT", "SIGHUP"])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    home, rows = Path(tempfile.mkdtemp(prefix="splitray-stops-")), []
    write_corpus(home / "corpus")
    (home / "small.yaml").write_text(yaml.safe_dump(config(home / "corpus")))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    print("signal   stage        code  line   traceback  seconds  checkpoints")
    for name in options.signals:
        for stage in options.stages:
            (home / name).mkdir(exist_ok=True)
            row = stopped_in(home, home / name / "run", stage, signal.Signals[name])
            rows.append(row)
            print(
                f"{name:8} {stage:12} {row['code']:4}  {row['line']!s:5}  {row['traceback']!s:9}  "
                f"{row['seconds']:7}  {row['checkpoints']:11}" + ("" if row["reached"] else "  (it had ended before)"),
                flush=True,
            )
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
    good = (not r["reached"] or (r["code"] == 1 and r["line"] and not r["traceback"]) for r in rows)
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
