"""Where splitray leans on what torch, DeepSpeed, faiss and Ray Data keep to themselves, and which versions it knows.

Each such name is used in one function here. Where a later version lacks it, one warning names the version and what is
lost, and the work goes on without it.

There are two files of this kind. This one imports none of those packages before a function of it is called, and never
Ray, so that `training/`, `corpus/` and a laptop without engines may use it. `executor/compat.py` holds Ray's names.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# What is tested together, from the first to below the second; pyproject.toml has the same bounds.
TESTED = {
    "ray": ("2.60", "2.61"),
    "torch": ("2.6", "2.14"),
    "deepspeed": ("0.19", "0.20"),
    "transformers": ("5.0", "6"),
    "faiss-cpu": ("1.9", "2"),
}


def untested_versions() -> list[str]:
    """A sentence for every installed package whose version lies outside `TESTED`."""
    found = []
    for package, (first, below) in TESTED.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        if not _numbers(first) <= _numbers(installed) < _numbers(below):
            found.append(f"{package} {installed} is installed; splitray is tested with {first} up to below {below}")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, so that "2.13.0+cpu" lies between "2.6" and "2.14"."""
    numbers: list[int] = []
    for part in text.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


@cache  # one warning a process
def warn_missing(package: str, name: str, consequence: str) -> None:
    """Say once that a package lacks a name, and what happens without it."""
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "(version unknown)"
    _log.warning("%s %s has no %s: %s", package, installed, name, consequence)


# DeepSpeed


def skip_shared_memory_op() -> None:
    """Have DeepSpeed use gloo on CPUs, where it would compile a shared-memory all-reduce at its first start (37 s)."""
    import deepspeed

    try:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    except (AttributeError, TypeError):
        warn_missing("deepspeed", "ops.__compatible_ops__", "its first start on a CPU compiles an operator, for 37 s")


def link_moments(optimizer: Any) -> None:
    """Map the parameters of a ZeRO 1 or 2 optimizer to their moments again.

    DeepSpeed 0.19.8 maps them after the first group's first step, when a second group's moments do not exist yet.
    Where it has no such step to repeat, it is taken to map all of them itself: a moment that is still missing is an
    error of `safe_get_full_optimizer_state`, never a wrong state.
    """
    try:
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()
    except AttributeError:
        name = "_lazy_init_hp_params_optimizer_state"
        warn_missing("deepspeed", name, "the optimizer's moments are read as DeepSpeed itself maps them")


def skip_reduction(engine: Any) -> None:
    """Have a DeepSpeed engine without ZeRO in a world of one leave gradients where they are.

    It flattens all of them into a copy, reduces that over one process and copies it back: at 135M parameters 0.5 GB.
    """
    if not hasattr(engine, "enable_backward_allreduce"):
        warn_missing("deepspeed", "DeepSpeedEngine.enable_backward_allreduce", "a step copies its gradients")
        return
    engine.enable_backward_allreduce = False


# torch


def softmax_backward(gradient: "torch.Tensor", probabilities: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """The gradient of a softmax's input over the last dimension, from that of its output.

    torch's own kernel makes one pass where plain operators make three; both compute p (g - sum(g p)).
    """
    import torch

    kernel = getattr(torch, "_softmax_backward_data", None)
    if kernel is None:
        warn_missing("torch", "_softmax_backward_data", "attention on CPUs is slower")
        wide = probabilities.to(gradient.dtype)
        return (wide * (gradient - (gradient * wide).sum(-1, keepdim=True))).to(dtype)
    result: torch.Tensor = kernel(gradient, probabilities, -1, dtype)
    return result


@cache
def varlen_kernel() -> Any:
    """torch's flash attention over sequences of many lengths; None before torch 2.11, which names its window so."""
    import inspect

    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        found = None
    else:
        found = varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None
    if found is None:
        warn_missing("torch", "varlen_attn with a window", "GPUs keep documents apart by a mask, slower")
    return found


def allow_recompiles(count: int) -> None:
    """Have torch compile one piece of code for at least so many shapes; a public name since torch 2.7."""
    import torch

    try:
        config = torch.compiler.config
        config.recompile_limit = max(count, config.recompile_limit)
    except AttributeError:
        warn_missing("torch", "compiler.config.recompile_limit", "models after the eighth size run uncompiled")


def forget_compiled() -> None:
    """Have torch.compile forget what this process has compiled or failed to; files on disk stay."""
    import torch

    torch.compiler.reset()
    try:
        from torch._inductor.utils import clear_caches

        clear_caches()
    except ImportError:
        warn_missing("torch", "_inductor.utils.clear_caches", "a spoilt cache of compiled code may be met once more")


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AMX or AVX512-BF16); a public answer since torch 2.12."""
    import torch

    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:
        warn_missing("torch", "cpu.get_capabilities", "`auto` means float32 on CPUs")
        return False
    return bool(capabilities.get("amx_tile") or capabilities.get("avx512_bf16"))


# faiss


@contextmanager
def row_by_row() -> Iterator[int]:
    """Have a flat index of faiss compute every row by itself, whatever else is in the batch.

    Yields:
        How many rows may be searched at once. Matrix products, which round a row differently among others, begin at
        20 rows by default, so that without the threshold's name batches stay below.
    """
    import faiss

    try:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1 << 30
    except AttributeError:
        warn_missing("faiss-cpu", "cvar.distance_compute_blas_threshold", "texts are routed 16 at a time, slower")
        yield 16
        return
    try:
        yield 1 << 30
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


# Ray Data: names of loggers only. One that a later version has renamed is quiet under its old name, and its lines show.

_RAY_DATA = {
    "ray.data._internal.progress": logging.ERROR,  # that bars are off
    "ray.data._internal.execution.streaming_executor": logging.WARNING,  # that an execution of a random name has ended
}


def quiet_ray_data() -> None:
    """Raise the level of Ray Data's loggers that tell what our own log tells."""
    for name, level in _RAY_DATA.items():
        logging.getLogger(name).setLevel(level)
