"""What this machine is, in words that may be published: no worker name, no path."""

import platform
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
