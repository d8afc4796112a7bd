"""Whether PyTorch can compute on this process's GPU, and why not where it cannot. Imports torch inside functions."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/version")  # also in containers: NVIDIA's runtime mounts it
# First driver of the CUDA major version: NVIDIA, CUDA Compatibility, "Minor Version Compatibility", table 1.
_NEEDED = {11: 450, 12: 525, 13: 580}
_LONG = 300.0  # seconds: importing torch on a node whose disk is cold took 70


def gpu_fault() -> str | None:
    """Why PyTorch cannot compute on a GPU of this process, in one sentence; None where it can.

    A kernel is run: a card without one for its architecture, or one that is broken, is counted by CUDA all the same.
    """
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        said = " ".join(" ".join(str(warning.message) for warning in caught).split())
        return _why_none(torch.__version__, torch.version.cuda, driver(), said)
    try:
        torch.ones(8, device="cuda").sum().item()
    except torch.OutOfMemoryError:  # somebody else's work fills the card, which computes
        return None
    except RuntimeError as error:
        name, first = torch.cuda.get_device_name(), str(error).strip().splitlines()[0]
        return f"PyTorch {torch.__version__} cannot run on {name}: {first}"
    return None


def gpu_software() -> dict[str, str]:
    """What decides the bits that this process's GPU computes: its model, driver, CUDA and NCCL; empty on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    found = {"model": torch.cuda.get_device_name(), "driver": driver(), "cuda": torch.version.cuda}
    found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return {name: str(value) for name, value in found.items()}


def driver(path: Path = _DRIVER) -> str | None:
    """Version of the NVIDIA driver that is loaded; None where there is none."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", path.read_text())
    except OSError:
        return None
    return found[0] if found else None


def _why_none(torch_version: str, cuda: str | None, loaded: str | None, said: str) -> str:
    """What keeps PyTorch from seeing a GPU.

    Args:
        cuda: version that PyTorch is built for, None for a CPU build.
        loaded: version of the driver.
        said: what PyTorch warned of.
    """
    if cuda is None:
        return f"PyTorch {torch_version} is a build without CUDA: install the one from PyPI, which has it"
    needed = _NEEDED.get(int(cuda.split(".")[0]))
    built = f"PyTorch {torch_version} is built for CUDA {cuda}"
    if loaded is None:
        return f"no NVIDIA driver is loaded; {built}" + (f", which needs {needed} or newer" if needed else "")
    if needed is not None and int(loaded.split(".")[0]) < needed:
        return f"the NVIDIA driver {loaded} is too old: {built}, which needs {needed} or newer"
    return f"PyTorch sees no GPU under the NVIDIA driver {loaded}; {built}" + (f"; it says: {said}" if said else "")


def gpu_fault_of_node() -> str | None:
    """`gpu_fault` of a process of its own that sees every GPU of this node, whatever this one may see."""
    code = "from splitray.runtime.gpu import gpu_fault; print(gpu_fault() or '')"
    command = ["env", "-u", "CUDA_VISIBLE_DEVICES", sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONG, check=False)
    except subprocess.TimeoutExpired:
        return f"PyTorch gave no answer within {_LONG:.0f} s"
    if done.returncode:
        return f"PyTorch cannot be tried: {(done.stderr.strip().splitlines() or ['it died without a word'])[-1]}"
    return done.stdout.strip() or None
