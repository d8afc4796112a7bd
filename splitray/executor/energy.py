"""The energy that the GPUs of this process count themselves, by NVIDIA's management library (NVML)."""

from typing import Any

import ray

from splitray.executor.compat import nvml


class EnergyMeter:
    """Reads the counters of the GPUs that Ray has given to this process. To be made in the process's main thread.

    The counter is `nvmlDeviceGetTotalEnergyConsumption`: millijoules of the whole GPU since the driver was loaded, on
    Volta and later. Where there is no GPU, no driver or no counter, nothing is measured and nothing raised.
    """

    def __init__(self) -> None:
        names = [str(name) for name in ray.get_runtime_context().get_accelerator_ids().get("GPU", [])]
        self._nvml: Any = nvml() if names else None
        self._handles = self._opened(names) if self._nvml is not None else []
        self._last = self._read()

    def joules(self) -> float | None:
        """What the GPUs have used since the last call, in joules; None where they do not say."""
        now, before = self._read(), self._last
        self._last = now
        return None if now is None or before is None or now < before else (now - before) / 1000

    def _opened(self, names: list[str]) -> list[Any]:
        try:
            self._nvml.nvmlInit()
            return [
                self._nvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdigit()
                else self._nvml.nvmlDeviceGetHandleByUUID(name)
                for name in names
            ]
        except self._nvml.NVMLError:
            return []

    def _read(self) -> int | None:
        """Millijoules on the counters of all GPUs together."""
        if not self._handles:
            return None
        try:
            return sum(int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in self._handles)
        except self._nvml.NVMLError:
            return None
