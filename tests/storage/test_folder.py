"""Disks that are full or read-only under the real work: one message, an exit code, and nothing that looks finished."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from splitray.errors import UserError
from splitray.law import Law
from splitray.storage.store import Store
from tests.support import ROOT
from tests.support.configs import PLAIN, config, write_corpus
from tests.support.disk import fill, remount


def job(home: Path, *more: str) -> tuple[int, list[str]]:
    """Exit code and lines of the main job."""
    command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", "c.yaml", *more]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        command, cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.strip().splitlines()


def test_a_read_only_run_folder_ends_the_job_at_once(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN))
    remount(small_disk, "ro")
    code, lines = job(tmp_path, "--run-dir", str(small_disk / "run"))
    assert (code, lines) == (1, [f"splitray: {small_disk}/run/config.yaml: the file system is read-only"])


@pytest.mark.ray
def test_a_disk_that_fills_up_ends_the_job(small_disk: Path, tmp_path: Path) -> None:
    """One megabyte for a corpus of one: Ray Data's tasks meet the end of the disk, and the driver says so."""
    write_corpus(tmp_path / "corpus")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config(tmp_path / "corpus")))
    fill(small_disk, leave=200_000)
    code, lines = job(tmp_path, "--run-dir", str(small_disk / "run"))
    told = [line for line in lines if "the disk is full" in line]
    assert code == 1 and told and lines[-1] == told[-1], lines
    assert lines[-1].startswith(f"splitray: {small_disk}/store/")
    assert not [line for line in lines if line.startswith("Traceback")], lines
    assert not Store(small_disk / "store").keys() and not (small_disk / "run/stages").exists()


def test_a_law_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    constants = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
    before = Law.known("chinchilla", constants)
    before.save(small_disk / "law.json")
    fill(small_disk)
    with pytest.raises(UserError, match=r"law\.json: the law cannot be written .*the disk is full"):
        Law.known("chinchilla", constants | {"E": 1.7}).save(small_disk / "law.json")
    assert Law.load(small_disk / "law.json") == before
    assert {p.name for p in small_disk.iterdir()} == {"law.json", "ballast"}
