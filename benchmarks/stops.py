"""Signals to the driver in every stage of a small run, and processes that are stopped for ever: what came out.

    python -m benchmarks.stops [--parts stages segment hangs] [--signals SIGTERM SIGINT SIGHUP] [--out DIR]

The runs join one cluster of two CPUs, as jobs of `ray job submit` do. What OUT holds of parts and signals that are not
asked for is kept.

`stages`: one undisturbed run says what the end must be. Then one run a signal comes through all stages: it is signalled
in each, and started again. In stages that train, the signal comes once a worker was given work; else half a second
after the stage began, and at once in stages that are over by then. A last start must finish with every loss and model
of the undisturbed run, to the bit.

`segment`: the signal comes while a long segment of the ladder trains, in a Ray that the run has started itself. The
clock writes no checkpoint, so the one that is there afterwards the stop has kept.

`hangs`: a ladder actor, then the coordinator, is stopped for ever (SIGSTOP), and must be named and replaced. The last
row stops the coordinator and then signals the driver.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.chaos_job import TITLES, is_titled
from benchmarks.machine import describe
from splitray.cli.signals import LINE
from splitray.pipeline.run_folder import STAGES
from splitray.results.summary import Summary, every_loss
from splitray.storage.checksum import sha256_file
from tests.support.clusters import Head, hear_signals, joined
from tests.support.configs import config, write_corpus

ROOT = Path(__file__).resolve().parent.parent

_STAGE = re.compile(r" stage \d of \d: (\w+)$", re.MULTILINE)
TRAINS = ("ladder", "search", "base", "specialists")
SHORT = ("law", "plan", "report")
HANGS = (("ladder actor", None), ("coordinator", None), ("coordinator", signal.SIGTERM))  # and the signal after it
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
    inside: bool = False

    @property
    def good(self) -> bool:
        return self.code == 1 and self.line and not self.traceback and (self.checkpoints > 0 or not self.inside)


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

    def __init__(self, home: Path, name: str, cluster: Head | None, long: bool = False) -> None:
        self.cluster, self.folder = cluster, home / name
        self.environment = cluster.environment if cluster else dict(os.environ)
        self.folder.mkdir()
        plain = config(home / "corpus") | {"budget": 98304}
        plain["training"] |= {"checkpoint_seconds": 3600.0}
        plain["ladder"] |= {"pretrain_tokens": [6144, 49152], "specialize_tokens": [1024, 8192]}
        plain["search"] |= {"budget": 49152}
        if long:
            plain["ladder"] |= {"pretrain_tokens": [6144, 6144000], "max_share": 1e5}
        plain["resources"] = {"silence_seconds": SILENCE}
        self.config = self.folder / "small.yaml"
        self.config.write_text(yaml.safe_dump(plain))
        self.log = self.folder / "log.txt"

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", str(self.config)]
        command += ["--run-dir", str(self.folder / "run")]
        with self.log.open("wb") as out:
            return subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=subprocess.STDOUT, preexec_fn=hear_signals
            )

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


def stopped_in(run: Run, stage: str, number: signal.Signals, inside: bool = False) -> Stop:
    """Start the run, signal its driver in a stage, and tell how it ended.

    Args:
        inside: a long segment, whose short predecessors have been published.
    """
    job = run.start()
    wait(job, lambda: run.stage == stage)
    if inside:
        wait(job, lambda: any(run.folder.glob("store/done/seg-*")))
        time.sleep(5)
    elif stage in TRAINS:
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
        inside=inside,
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


@dataclass
class Table:
    """What was measured, in the file that holds it."""

    out: Path | None
    stops: list[Stop] = field(default_factory=list)
    hangs: list[Hang] = field(default_factory=list)
    same: dict[str, bool] = field(default_factory=dict)

    def recall(self, parts: list[str], signals: list[str]) -> None:
        """Take over what the file holds of parts and signals that are not asked for."""
        file = self.out / "stops.json" if self.out else None
        if file is None or not file.exists():
            return
        held = json.loads(file.read_text())
        asked = [part == "segment" for part in parts if part != "hangs"]
        rows = [Stop(**row) for row in held["stops"]]
        self.stops = [row for row in rows if row.inside not in asked or row.signal not in signals]
        self.hangs = [] if "hangs" in parts else [Hang(**row) for row in held["hangs"]]
        gone = signals if "stages" in parts else []
        self.same = {k: v for k, v in held["same_end_after_all_stops"].items() if k not in gone}

    def add(self, row: Stop | Hang | tuple[str, bool]) -> None:
        """Keep a row, print it, write the file."""
        if isinstance(row, Stop):
            self.stops.append(row)
            print(
                f"{row.signal:8} {row.stage:12} {row.met:12} {row.code:4}  {row.line!s:5}  {row.traceback!s:9}  "
                f"{row.seconds:7}  {row.checkpoints:11}",
                flush=True,
            )
        elif isinstance(row, Hang):
            self.hangs.append(row)
            print(f"{row.role:13} {row.then:8} {row.named!s:5}  {row.code:4}  {row.seconds:7}  {row.same}", flush=True)
        else:
            self.same[row[0]] = row[1]
            print(f"{row[0]:8} the last start finished with the same losses and models: {row[1]}", flush=True)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            made = {"machine": describe("ray", "torch", "deepspeed"), "stops": [asdict(s) for s in self.stops]}
            made |= {"same_end_after_all_stops": self.same, "hangs": [asdict(h) for h in self.hangs]}
            (self.out / "stops.json").write_text(json.dumps(made, indent=1) + "\n")

    @property
    def good(self) -> bool:
        """Whether every stop and every hang ended as the documentation says."""
        stops = [s.good or (s.met != s.stage and not s.inside) for s in self.stops]
        hangs = [h.code == 1 if h.then else h.named and h.code == 0 and bool(h.same) for h in self.hangs]
        return all(stops) and all(hangs) and all(self.same.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = ("stages", "segment", "hangs")
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=parts)
    parser.add_argument("--signals", nargs="+", default=["SIGTERM", "SIGINT", "SIGHUP"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    home, table = Path(tempfile.mkdtemp(prefix="splitray-stops-")), Table(options.out)
    table.recall(options.parts, options.signals)
    write_corpus(home / "corpus")
    if {"stages", "hangs"} & set(options.parts):
        with joined(2) as cluster:
            in_cluster(options, home, cluster, table)
    if "segment" in options.parts:
        print("\ninside a long segment, in a Ray of its own", flush=True)
        for name in options.signals:
            table.add(stopped_in(Run(home, f"long-{name}", None, long=True), "ladder", signal.Signals[name], True))
    sys.exit(not table.good)


def in_cluster(options: argparse.Namespace, home: Path, cluster: Head, table: Table) -> None:
    """The parts that need the end of an undisturbed run."""
    calm, began = Run(home, "calm", cluster), time.monotonic()
    assert calm.start().wait() == 0, f"the undisturbed run failed: {calm.log}"
    expected = calm.end()
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    if "stages" in options.parts:
        print("\nsignal   stage        met          code  line   traceback  seconds  checkpoints", flush=True)
        for name in options.signals:
            run = Run(home, name, cluster)
            for stage in (stage for stage in STAGES if stage != "exams"):  # the run names none
                table.add(stopped_in(run, stage, signal.Signals[name]))
            table.add((name, run.start().wait() == 0 and run.end() == expected))
    if "hangs" in options.parts:
        print("\nhung          then     named  code  seconds  same", flush=True)
        for place, (role, then) in enumerate(HANGS):
            table.add(hung(Run(home, f"hang{place}", cluster), role, then, expected))


if __name__ == "__main__":
    main()
