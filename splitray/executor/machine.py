"""What this machine is, in words that may be published: no worker name, no path."""

import os
import platform
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def cpus() -> int:
    """Processors that this process may use: those it is bound to, within the quota of its container."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")  # of cgroups v2: "200000 100000" are two processors, "max" has no limit
    most, _, period = quota.read_text().partition(" ") if quota.exists() else ("max", "", "")
    return bound if most == "max" else max(1, min(bound, int(most) // int(period)))
