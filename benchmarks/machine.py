"""What a benchmark ran on, for the committed results: no host names, no paths."""

import os
import platform
from importlib.metadata import version
from typing import Any

from splitray.executor.machine import cpu_model


def describe(*packages: str) -> dict[str, Any]:
    """CPU, cores, threads asked of numpy (None: its own choice), Python and package versions."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or None,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
