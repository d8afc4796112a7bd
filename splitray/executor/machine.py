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


# Dense bf16 FLOP/s by NVIDIA's data sheets, by what a GPU's name holds; of two, the first that is found.
_PEAKS = (("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200", 989e12), ("A100", 312e12))


def peak_flops(gpu: bool) -> float:
    """The peak bf16 FLOP/s of this process's GPU; 0 on a CPU, and for a GPU that is not listed."""
    if not gpu:
        return 0.0
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in _PEAKS if part in name), 0.0)
