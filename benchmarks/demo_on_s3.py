"""The whole demo with its run folder and store on an object store: the same losses, and no secret left behind.

    python -m benchmarks.demo_on_s3 [--config FILE] [--local SUMMARY | --alone] [--out benchmarks/results/s3]

The object store is moto's S3 server on loopback, reached through pyarrow's S3 client as a real one would be, with
random keys in the URI. `--local` names the summary of a local run of the same demo on this machine; without it that run
is made first, or not at all with `--alone`. Afterwards every object, the job's log and its events are searched for the
secret.
"""

import argparse
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from pyarrow import fs

from benchmarks.machine import describe
from splitray.results.summary import Summary, every_loss

ROOT = Path(__file__).resolve().parent.parent


def demo(config: Path, run_dir: str) -> tuple[float, str]:
    """Seconds that the job took with this run folder, and its log."""
    command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", str(config), "--run-dir", run_dir]
    # `auto` measures which precision is faster, and two runs on a busy machine need not agree
    command += ["--set", "training.precision=fp32"]
    begun = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    return time.monotonic() - begun, done.stdout


def objects(bucket: fs.FileSystem, name: str) -> dict[str, bytes]:
    infos = bucket.get_file_info(fs.FileSelector(name, recursive=True))
    return {i.path: bucket.open_input_file(i.path).readall() for i in infos if i.type == fs.FileType.File}


def differing(one: Any, other: Any, where: str = "") -> list[str]:
    """The places at which two nested values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [d for k in sorted({*one, *other}, key=str) for d in differing(one.get(k), other.get(k), f"{where}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, pair in enumerate(zip(one, other, strict=True)) for d in differing(*pair, f"{where}/{i}")]
    return [] if one == other else [f"{where}: {one} and {other}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=ROOT / "configs/demo.yaml")
    parser.add_argument("--local", type=Path)
    parser.add_argument("--alone", action="store_true", help="compare with no local run")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/s3")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it prints every request
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    place = "{}:{}".format(*server.get_host_and_port())
    bucket = fs.S3FileSystem(
        access_key=key, secret_key=secret, endpoint_override=place, scheme="http", allow_bucket_creation=True
    )
    bucket.create_dir("runs")
    with tempfile.TemporaryDirectory(prefix="splitray-local-") as folder:
        local_seconds: float | None = None
        if options.local is None and not options.alone:
            local_seconds, _ = demo(options.config, f"{folder}/run")
            options.local = Path(folder) / "run/summary.json"
        local = None if options.alone else Summary.parse(json.loads(options.local.read_text()))
    where = f"s3://{key}:{secret}@runs/team/demo?scheme=http&endpoint_override={place}&region=us-east-1"
    seconds, log = demo(options.config, where)
    again, log_again = demo(options.config, where)
    held = objects(bucket, "runs")
    summary = Summary.parse(json.loads(held["runs/team/demo/summary.json"]))
    told: dict[str, Any] = {
        "machine": describe("ray", "pyarrow", "moto"),
        "seconds": round(seconds, 1),
        "seconds_local": round(local_seconds, 1) if local_seconds is not None else None,
        "seconds_again": round(again, 1),
        "stages": {s.stage: round(s.seconds, 1) for s in summary.stages},
        "objects": len(held),
        "bytes": sum(map(len, held.values())),
        "losses_equal_the_local_run": every_loss(summary) == every_loss(local) if local else None,
        "losses_that_differ": differing(every_loss(summary), every_loss(local)) if local else [],
        "places_that_hold_the_secret": [p for p, b in held.items() if secret.encode() in b]
        + [name for name, text in (("log", log), ("log of the second start", log_again)) if secret in text],
        "second_start_trained_nothing": "nothing to train" in log_again,
    }
    server.stop()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "s3.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    wanted = told["losses_equal_the_local_run"] is not False and told["second_start_trained_nothing"]
    sys.exit(not wanted or bool(told["places_that_hold_the_secret"]))


if __name__ == "__main__":
    main()
