"""The benchmark of one GPU on a CPU that stands in: every number is there, and what must be equal is."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_cpu_stands_in(tmp_path: Path) -> None:
    phases = ["correct", "checkpoint", "recompute", "ladder"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--cpu", "--out", str(tmp_path), "--phases", *phases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert list(told) == phases
    exact, mixed = told["correct"]
    assert exact["worst"] < 1e-5 and mixed["worst"] < 0.01
    assert exact["plain"][0] > exact["plain"][-1], "nothing was learned, so nothing was compared"
    assert told["checkpoint"][0]["same_losses"]
    assert [row["recomputed"] for row in told["recompute"]] == ["none", "selective", "full"]
    assert all(row["same_losses"] for row in told["recompute"])
    assert told["ladder"][0]["tokens_per_second"] > 0
