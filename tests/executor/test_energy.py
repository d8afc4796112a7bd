"""The energy of GPUs by their own counters, which no CPU has: NVML is stood in for, its errors too."""

from types import SimpleNamespace
from typing import Any

import pytest

from splitray.executor import energy
from splitray.executor.compat import nvml
from splitray.executor.energy import EnergyMeter


class NVMLError(Exception):
    pass


class Library:
    """Two GPUs, by index and by UUID; millijoules on their counters."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.counters: dict[str, int | None] = {"0": 1_000, "GPU-b": 5_000}
        self.driver = True

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("no driver")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return str(index)

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        counter = self.counters[handle]
        if counter is None:
            raise NVMLError("not supported")
        return counter


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(energy, "nvml", lambda: made)
    given(monkeypatch, ["0", "GPU-b"])
    return made


def given(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    context: Any = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": names})
    monkeypatch.setattr(energy.ray, "get_runtime_context", lambda: context)


def test_joules_are_what_the_counters_have_grown_by(library: Library) -> None:
    meter = EnergyMeter()
    library.counters = {"0": 3_000, "GPU-b": 5_500}
    assert [meter.joules(), meter.joules()] == [2.5, 0.0]


def test_nothing_is_measured_without_a_driver_a_counter_or_a_gpu(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.counters["0"] = None
    assert EnergyMeter().joules() is None
    library.driver = False
    assert EnergyMeter().joules() is None
    given(monkeypatch, [])
    assert EnergyMeter().joules() is None


def test_a_counter_that_begins_anew_is_no_negative_energy(library: Library) -> None:
    meter = EnergyMeter()
    library.counters = {"0": 10, "GPU-b": 10}
    assert meter.joules() is None
    library.counters = {"0": 1_010, "GPU-b": 10}
    assert meter.joules() == 1.0


def test_rays_own_copy_of_the_library_has_what_is_called() -> None:
    assert all(hasattr(nvml(), name) for name in dir(Library) if name.startswith("nvml") or name == "NVMLError")
