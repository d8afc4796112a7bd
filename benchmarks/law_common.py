"""What the benchmarks of the law share: the machine they ran on, and where the real tables lie."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

RUNS = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "runs"
RESULTS = Path(__file__).resolve().parent / "results" / "law"


def machine() -> dict[str, object]:
    """CPU, cores and versions; nothing that names the host."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = found[0] if found else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "pyarrow")},
    }


def table(name: str) -> Path:
    """A real table of runs; ends the benchmark with a word where it is not at hand."""
    path = RUNS / name
    if not path.exists():
        raise SystemExit(f"{name}: this benchmark needs the real table in ../shared/data/runs")
    return path
