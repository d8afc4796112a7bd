"""What a benchmark ran on, for the committed results: no host names, no paths."""

import os
import platform
from importlib.metadata import version
from typing import Any


def describe(*packages: str) -> dict[str, Any]:
    """CPU model, cores, Python and package versions."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
