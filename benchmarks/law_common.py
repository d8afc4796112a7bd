"""What the benchmarks of the law share: the machine they ran on, and where the real tables lie."""

from pathlib import Path
from typing import Any

from benchmarks.machine import describe

RUNS = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "runs"
RESULTS = Path(__file__).resolve().parent / "results" / "law"


def machine() -> dict[str, Any]:
    """CPU, cores and versions; nothing that names the host."""
    return describe("numpy", "scipy", "pyarrow")


def table(name: str) -> Path:
    """A real table of runs; ends the benchmark with a word where it is not at hand."""
    path = RUNS / name
    if not path.exists():
        raise SystemExit(f"{name}: this benchmark needs the real table in ../shared/data/runs")
    return path
