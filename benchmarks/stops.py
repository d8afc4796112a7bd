"""Signals to the driver in every stage of a small run, and processes that are stopped for ever: what came out.

    python -m benchmarks.stops [--signals SIGTERM SIGINT SIGHUP] [--stages corpus ladder ...] [--skip-hangs] [--out DIR]

The runs join one cluster of two CPUs, as jobs of `ray job submit` do; in the last rows they start Ray themselves. One
undisturbed run says what the end must be. Then one run a signal comes through all stages: it is signalled in each, and
started again. In stages that train, the signal comes once a worker trains; else half a second after the stage began,
and at once in stages that are over by then. The clock writes no checkpoint here, so whatever is kept of an unfinished
segment the stop has kept. A last start must finish with every loss and model of the undisturbed run, to the bit.

The second part stops a ladder actor, then the coordinator, for ever (SIGSTOP), and expects them to be named and
replaced; the last row stops the coordinator and then signals the driver.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from chaos_job import TITLES, is_titled

from benchmarks.machine import describe
from splitray.cli.signals import LINE
from splitray.pipeline.run_folder import STAGES
from splitray.results.summary import Summary, every_loss
from splitray.storage.checksum import sha256_file
from tests.support.clusters import Head, joined
from tests.support.configs import config, write_corpus

ROOT = Path(__file__).resolve().parent.parent

_STAGE = re.compile(r" stage \d of \d: (\w+)$", re.MULTILINE)
TRAINS = ("ladder", "search", "base", "specialists")
SHORT = ("law", "plan", "report")
SILENCE = 15  # resources.silence_seconds of the runs with hangs


@dataclass
class Stop:
    """How a driver ended after a signal.

    Attributes:
        met: the stage in which the signal met it.
        line: whether the documented line was its last. traceback: whether any was printed.
        seconds: from the signal to the end. checkpoints: of unfinished segments, in the store afterwards.
    """

    signal: str
    stage: str
    met: str
    code: int
    line: bool
    traceback: bool
    seconds: float
    checkpoints: int
    own_ray: bool = False

    @property
    def good(self) -> bool:
        return self.code == 1 and self.line and not self.traceback


@dataclass
class Hang:
    """What came of a process that was stopped for ever. `seconds`: until it was replaced, or the driver ended."""

    role: str
    then: str
    named: bool
    code: int
    seconds: float
    same: bool | None


class Run:
    """A small run in a folder of its own, with a log of its last start."""

    def __init__(self, home: Path, name: str, cluster: Head | None) -> None:
        self.cluster, self.folder = cluster, home / name
        self.environment = cluster.environment if cluster else dict(os.environ)
        self.folder.mkdir()
        plain = config(home / "corpus") | {"budget": 98304}
        plain["training"] |= {"checkpoint_seconds": 3600.0}
        plain["ladder"] |= {"pretrain_tokens": [6144, 49152], "specialize_tokens": [1024, 8192]}
        plain["search"] |= {"budget": 49152}
        plain["resources"] = {"silence_seconds": SILENCE}
        self.config = self.folder / "small.yaml"
        self.config.write_text(yaml.safe_dump(plain))
        self.log = self.folder / "log.txt"

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, ROOT / "jobs/split.py", "--config", self.config, "--run-dir", self.folder / "run"]
        with self.log.open("wb") as out:
            return subprocess.Popen(command, env=self.environment, stdout=out, stderr=subprocess.STDOUT)

    @property
    def stage(self) -> str:
        """The stage that the log of this start tells of last."""
        begun = _STAGE.findall(self.log.read_text())
        return str(begun[-1]) if begun else "start"

    @property
    def checkpoints(self) -> int:
        return len(list(self.folder.glob("store/done/part-*")))

    def end(self) -> dict[str, Any] | None:
        """Every loss, and the digest of every exported model; None where the run did not finish."""
        run = self.folder / "run"
        if not (run / "report/index.html").exists():
            return None
        digests = {p.relative_to(run).as_posix(): sha256_file(p) for p in sorted(run.glob("**/model.safetensors"))}
        return {"losses": every_loss(Summary.parse(json.loads((run / "summary.json").read_text()))), "models": digests}


def of_role(run: Run, job: "subprocess.Popen[bytes]", titled: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Processes of a role, of the cluster that the run joined or of the Ray that it started."""
    root = run.cluster.process if run.cluster else job
    try:
        return [p for p in psutil.Process(root.pid).children(recursive=True) if titled(p)]
    except psutil.Error:
        return []


def trains(process: psutil.Process) -> bool:
    try:
        title = (process.cmdline() or [""])[0]
    except psutil.Error:
        return False
    return title.startswith("ray::") and ".train" in title


def wait(job: "subprocess.Popen[bytes]", ready: Callable[[], object], seconds: float = 600.0) -> None:
    """Until something is so, the job has ended, or the time is over."""
    deadline = time.monotonic() + seconds
    while job.poll() is None and not ready() and time.monotonic() < deadline:
        time.sleep(0.02)


def stopped_in(run: Run, stage: str, number: signal.Signals) -> Stop:
    """Start the run, signal its driver in a stage, and tell how it ended."""
    job = run.start()
    wait(job, lambda: run.stage == stage)
    if stage in TRAINS:
        wait(job, lambda: run.stage != stage or of_role(run, job, trains), 60.0)
    if stage not in SHORT:
        time.sleep(0.5)
    met, at = run.stage, time.monotonic()
    job.send_signal(number)
    code = job.wait()
    text = run.log.read_text()
    return Stop(
        signal=number.name,
        stage=stage,
        met=met,
        code=code,
        line=text.splitlines()[-1:] == [LINE],
        traceback="Traceback" in text or "SystemError" in text,
        seconds=round(time.monotonic() - at, 1),
        checkpoints=run.checkpoints,
    )


def hung(run: Run, role: str, then: signal.Signals | None, expected: dict[str, Any] | None) -> Hang:
    """Stop a process of a role for ever while the ladder trains, and tell what the driver makes of it."""
    words = "is replaced (" if role == "ladder actor" else "its process is replaced"
    job = run.start()
    wait(job, lambda: run.stage == "ladder" and of_role(run, job, trains))
    victims = of_role(run, job, lambda p: is_titled(p, TITLES[role]))
    at = time.monotonic()
    for victim in victims[:1]:
        victim.suspend()
    if then is None:
        wait(job, lambda: words in run.log.read_text())
    else:
        time.sleep(1)
        job.send_signal(then)
        at, code = time.monotonic(), job.wait()
    seconds = round(time.monotonic() - at, 1)
    code = job.wait()
    same = run.end() == expected if then is None else None
    return Hang(role, then.name if then else "", words in run.log.read_text(), code, seconds, same)


def write(out: Path | None, stops: list[Stop], hangs: list[Hang], same: dict[str, bool]) -> None:
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "machine": describe("ray", "torch", "deepspeed"),
        "stops": [asdict(s) for s in stops],
        "same_end_after_all_stops": same,
        "hangs": [asdict(h) for h in hangs],
    }
    (out / "stops.json").write_text(json.dumps(made, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signals", nargs="+", default=["SIGTERM", "SIGINT", "SIGHUP"])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--skip-hangs", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    home, stops, hangs, same = Path(tempfile.mkdtemp(prefix="splitray-stops-")), [], [], {}
    write_corpus(home / "corpus")
    with joined(2) as cluster:
        measure(options, home, cluster, stops, hangs, same)
    good = [*(s.good or s.met != s.stage for s in stops), *same.values()]
    good += [h.code == 1 if h.then else h.named and h.code == 0 and bool(h.same) for h in hangs]
    sys.exit(0 if all(good) else 1)


def measure(
    options: argparse.Namespace,
    home: Path,
    cluster: Head,
    stops: list[Stop],
    hangs: list[Hang],
    same: dict[str, bool],
) -> None:
    """Fill the tables, and print and write every row when it is there."""
    calm = Run(home, "calm", cluster)
    began = time.monotonic()
    code = calm.start().wait()
    assert code == 0, f"the undisturbed run failed: {calm.log}"
    expected = calm.end()
    print(f"undisturbed: {time.monotonic() - began:.0f} s\n", flush=True)
    print("signal   stage        met          code  line   traceback  seconds  checkpoints", flush=True)
    for name in options.signals:
        run = Run(home, name, cluster)
        for stage in options.stages:
            stops.append(row := stopped_in(run, stage, signal.Signals[name]))
            show(row)
            write(options.out, stops, hangs, same)
        code = run.start().wait()
        same[name] = code == 0 and run.end() == expected
        print(f"{name:8} the last start: exit code {code}, same losses and models: {same[name]}", flush=True)
        write(options.out, stops, hangs, same)
    if options.skip_hangs:
        return
    print("\nhung          then     named  code  seconds  same", flush=True)
    for role, then in (("ladder actor", None), ("coordinator", None), ("coordinator", signal.SIGTERM)):
        hangs.append(h := hung(Run(home, f"hang{len(hangs)}", cluster), role, then, expected))
        print(f"{h.role:13} {h.then:8} {h.named!s:5}  {h.code:4}  {h.seconds:7}  {h.same}", flush=True)
        write(options.out, stops, hangs, same)
    print("\nwith a Ray of its own", flush=True)
    for name in options.signals:
        stops.append(row := stopped_in(Run(home, f"own-{name}", None), "ladder", signal.Signals[name]))
        row.own_ray = True
        show(row)
        write(options.out, stops, hangs, same)


def show(row: Stop) -> None:
    print(
        f"{row.signal:8} {row.stage:12} {row.met:12} {row.code:4}  {row.line!s:5}  {row.traceback!s:9}  "
        f"{row.seconds:7}  {row.checkpoints:11}",
        flush=True,
    )


if __name__ == "__main__":
    main()
