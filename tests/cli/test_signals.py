"""Signals to a driver that is deep inside foreign code, and a standard output whose reader has gone. No cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splitray.cli.signals import LINE
from tests.support import ROOT
from tests.support.clusters import hear_signals

# The work is a call into C that never returns and never looks for signals, as a wait of Ray's may be.
DRIVER = """
import ctypes, sys, time
from pathlib import Path
from splitray.cli.signals import LINE, Signals, Stopped
place, kind = Path(sys.argv[1]), sys.argv[2]

def work():
    (place / "working").touch()
    if kind == "fails":
        raise ValueError("the work's own error")
    if kind in ("ends", "closing hangs"):
        while not (place / "stopped").exists():
            time.sleep(0.01)
        return
    ctypes.CDLL(None).sleep(600)

def stop():
    (place / "stopped").touch()
    if kind == "stop raises":
        raise RuntimeError("the coordinator is gone")
    if kind == "stop hangs":
        time.sleep(600)

with Signals() as signals:
    if kind == "before":
        (place / "working").touch()
        time.sleep(600)
    try:
        signals.run(work, stop)
    except Stopped:
        if kind == "closing hangs":
            time.sleep(600)
        print(LINE, file=sys.stderr)
        sys.exit(1)
"""


def start(place: Path, kind: str, *prefix: str) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-c", DRIVER, str(place), kind]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_signals,
    )
    wait_for(place / "working", driver)
    return driver


def wait_for(path: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["blocks", "ends", "stop raises", "closing hangs"])
def test_a_signal_stops_the_run_and_the_line_is_said(tmp_path: Path, number: int, kind: str) -> None:
    driver = start(tmp_path, kind)
    driver.send_signal(number)
    error = driver.communicate(timeout=120)[1]
    assert (tmp_path / "stopped").exists() and driver.returncode == 1
    assert error.splitlines()[-1] == LINE and "Traceback" not in error


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    driver = start(tmp_path, "stop hangs")
    driver.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "stopped", driver)
    driver.send_signal(signal.SIGINT)
    assert "ended at the second signal" in driver.communicate(timeout=120)[1] and driver.returncode == 1


def test_before_the_work_begins_there_is_nothing_to_keep(tmp_path: Path) -> None:
    driver = start(tmp_path, "before")
    driver.send_signal(signal.SIGHUP)
    error = driver.communicate(timeout=120)[1]
    assert error.splitlines() == [LINE] and driver.returncode == 1 and not (tmp_path / "stopped").exists()


def test_nohup_stays_what_it_is(tmp_path: Path) -> None:
    driver = start(tmp_path, "ends", "nohup")
    driver.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert driver.poll() is None and not (tmp_path / "stopped").exists()
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=120)
    assert driver.returncode == 1 and (tmp_path / "stopped").exists()


def test_the_error_of_the_work_is_raised_in_the_main_thread(tmp_path: Path) -> None:
    driver = start(tmp_path, "fails")
    assert "ValueError: the work's own error" in driver.communicate(timeout=120)[1] and driver.returncode == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_ends_nothing(tmp_path: Path, stream: str) -> None:
    """As `| head -1`: lines from two threads, by print and by the console, long after the reader has gone."""
    script = """
import sys, threading
from pathlib import Path
from rich.console import Console
from splitray.cli.streams import outlive_readers
outlive_readers()
stream = getattr(sys, sys.argv[2])
print("first", file=stream, flush=True)
sys.stdin.read()
console = Console(file=stream)
def talk():
    for number in range(2000):
        print(number, file=stream)
        console.print(number)
thread = threading.Thread(target=talk)
thread.start()
talk()
thread.join()
Path(sys.argv[1]).write_text("the end")
"""
    pipes = {"stdin": subprocess.PIPE, stream: subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "end"), stream]
    with subprocess.Popen(command, env=environment, **pipes) as job:  # type: ignore[call-overload]
        reader = getattr(job, stream)
        assert reader.readline() == b"first\n"
        reader.close()
        job.stdin.close()
        assert job.wait(timeout=240) == 0
    assert (tmp_path / "end").read_text() == "the end"
