"""What is said where PyTorch cannot compute on a GPU."""

from pathlib import Path

import pytest

from splitray.runtime.gpu import _why_none, driver, gpu_fault, gpu_fault_of_node

# As drivers write them: the closed module of 2023, and the open one of today.
CLOSED = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.105.17  Tue Mar 28 18:02:59 UTC 2023
GCC version:  gcc version 7.5.0 (Ubuntu 7.5.0-3ubuntu1~18.04)
"""
OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.91.07  Release Build  (builder@host)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "525.105.17"), (OPEN, "595.91.07"), ("nonsense", None)])
def test_reads_the_driver(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert driver(tmp_path / "version") == version


def test_no_driver_is_none(tmp_path: Path) -> None:
    assert driver(tmp_path / "version") is None


BUILT = "PyTorch 2.13.0 is built for CUDA"


@pytest.mark.parametrize(
    ("cuda", "loaded", "said"),
    [
        # the machine image that Ray takes where none is named, with the torch of constraints.txt
        ("13.0", "525.105.17", f"the NVIDIA driver 525.105.17 is too old: {BUILT} 13.0, which needs 580 or newer"),
        ("12.8", "470.82.01", f"the NVIDIA driver 470.82.01 is too old: {BUILT} 12.8, which needs 525 or newer"),
        ("13.0", None, f"no NVIDIA driver is loaded; {BUILT} 13.0, which needs 580 or newer"),
        (None, "595.91.07", "PyTorch 2.13.0 is a build without CUDA: install the one from PyPI, which has it"),
        (
            "13.0",
            "580.65.06",
            f"PyTorch sees no GPU under the NVIDIA driver 580.65.06; {BUILT} 13.0; it says: Error 802",
        ),
        ("14.1", "700.10", f"PyTorch sees no GPU under the NVIDIA driver 700.10; {BUILT} 14.1; it says: Error 802"),
    ],
)
def test_says_what_is_wrong(cuda: str | None, loaded: str | None, said: str) -> None:
    assert _why_none("2.13.0", cuda, loaded, "Error 802") == said


def test_a_node_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hiding every GPU from this process changes its own answer at most."""
    import torch

    before = gpu_fault_of_node()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_fault_of_node() == before
    if not torch.cuda.is_available():
        assert before == gpu_fault() and before is not None and "PyTorch" in before


@pytest.mark.gpu
def test_a_working_gpu_has_no_fault() -> None:
    assert gpu_fault() is None and gpu_fault_of_node() is None
