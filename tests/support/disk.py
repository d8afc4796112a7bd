"""Disks that fill up, and that turn read-only: for file systems of a test's own (the fixture `small_disk`)."""

import contextlib
import os
import subprocess
from pathlib import Path


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all room of a disk but for some bytes; the file that holds it."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while (free := os.statvfs(disk)).f_bavail * free.f_frsize > leave:
            stream.write(bytes(min(4096, free.f_bavail * free.f_frsize - leave)))
    return ballast


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
