"""What one worker trains on: a table of accelerators, for times that nobody has measured yet. No Ray.

Every number has its source. What a run has measured itself goes before this table, see `speeds`.
"""

from dataclasses import dataclass

from splitray.errors import UserError, did_you_mean

# Measured with splitray on one H100 at 1.3B parameters, 2,048 tokens a sequence: 55,320 tokens/s compiled with 4
# sequences at once (58,008 with 8), 34,666 eager with 8. The share counts 6 N + 6 L h S FLOPs a token.
_COMPILED, _EAGER = 0.474, 0.297
_OURS = "share of the peak as measured with splitray on one H100 at 1.3B parameters"


@dataclass(frozen=True)
class Accelerator:
    """One kind of device, or a core.

    Args:
        peak: FLOP/s of dense bf16 matrix products; of a core, what it trains with.
        compiled: share of the peak that training reaches with `torch.compile`, and `eager` without.
        launch: seconds of the host for each layer and micro-batch: a smaller model takes no less. `launch_compiled`
            with `torch.compile`.
        memory: GiB. A core has no limit here.
        start: seconds until a worker trains: imports, and the first touch of the device. `group`: of a worker group.
        publish: bytes a second of a state into the store, and `load` out of it.
        beside: seconds of a call beside its work: ask the store, build a small model, write a marker.
    """

    name: str
    peak: float
    compiled: float
    eager: float
    launch: float
    launch_compiled: float
    memory: float
    start: float
    group: float
    publish: float
    load: float
    source: str
    beside: float = 0.2  # of small segments on two cores


# A state of 15.75 GB was published in 29.1 s and loaded in 13.4 s, and a worker took 10 to 14 s to start (one H100 of
# this project's check). 16,384 tokens of models of 2, 4 and 10 layers took 10.0, 18.6 and 38.6 ms there, compiled 7.3,
# 13.0 and 28.5, which is the host's.
_GPU = {
    "launch": 0.0045,
    "launch_compiled": 0.003,
    "start": 14.0,
    "group": 14.0,
    "publish": 15.75e9 / 29.1,
    "load": 15.75e9 / 13.4,
}

ACCELERATORS = {
    a.name: a
    for a in (
        Accelerator(
            "A100", 312e12, _COMPILED, _EAGER, memory=80.0, source=f"NVIDIA A100 80GB data sheet; {_OURS}", **_GPU
        ),
        Accelerator(
            "H100", 989e12, _COMPILED, _EAGER, memory=80.0, source=f"NVIDIA H100 SXM data sheet; {_OURS}", **_GPU
        ),
        Accelerator(
            "H200", 989e12, _COMPILED, _EAGER, memory=141.0, source=f"NVIDIA H200 SXM data sheet; {_OURS}", **_GPU
        ),
        Accelerator("L40S", 362e12, _COMPILED, _EAGER, memory=48.0, source=f"NVIDIA L40S data sheet; {_OURS}", **_GPU),
        # One core in fp32. Two threads of an EPYC trained 4.6k tokens/s of 4.7M parameters, 6.5e10 a core; others less.
        # Starts: 6 s of imports, 12 s of a worker group (docs/measured.md). States of small models: 0.2 s of overhead.
        Accelerator("CPU", 2e10, 1.0, 1.0, 0.0, 0.0, 0.0, 6.0, 12.0, 1e9, 1e9, "assumed of one core in fp32"),
    )
}
GPU_DEFAULT = "H100"


def find(name: str) -> Accelerator:
    """The accelerator of a name in the table, or whose name holds one, as `NVIDIA H100 80GB HBM3` does.

    Raises:
        UserError: the table has none; the known ones are listed.
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    found = next((a for a in ACCELERATORS.values() if a.name in name.upper()), None)
    if found is None:
        near = did_you_mean(name, ACCELERATORS) or "; the table has " + ", ".join(ACCELERATORS)
        raise UserError(f"{name!r} is not known{near}. Or leave it out and give tokens_per_second as measured")
    return found
