"""What a process that trains does once: join its group, import DeepSpeed quietly, keep the memory that it frees."""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import cast

import torch
import torch.distributed as dist

from splitray.runtime.compat import skip_shared_memory_op

_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # bytes of an array; glibc takes no more


def join_world() -> None:
    """Join the process group that the host set up, or a world of one that needs no port.

    DeepSpeed would compile a shared-memory all-reduce at its first start on a CPU: 37 s, and a C++ compiler and ninja
    on every worker's PATH. gloo does the same exchange, so that is switched off and nothing is compiled.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    with deepspeed_environment():
        import deepspeed

        if not deepspeed.comm.is_initialized():
            skip_shared_memory_op()
            deepspeed.init_distributed(dist.get_backend(), auto_mpi_discovery=False, verbose=False)


@contextmanager
def deepspeed_environment() -> Iterator[None]:
    """What DeepSpeed sees while it starts; the process's own variables and modules come back after.

    It asks for a local rank, and warns when it has to guess the accelerator. Its autotuner, which is not used here,
    imports MLflow wherever that is installed: 3 of the 9 seconds of CPU that a worker took to start.
    """
    given = {"LOCAL_RANK": "0"} | ({} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"})
    own = {name: value for name, value in given.items() if name not in os.environ}
    os.environ.update(own)
    hidden = {"mlflow"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden, cast(ModuleType, None)))  # None: an import of it fails
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        for name in hidden:
            del sys.modules[name]


def keep_memory() -> None:
    """Have glibc keep the arrays that a step frees for the next step, where it would give back the large ones at once.

    The kernel zeroes and maps every page anew otherwise: on two virtual cores that was a third of the time of a step
    of 4096 tokens at 0.4M parameters. Arrays above 32 MB still come and go: at 135M parameters they would leave holes,
    3.92 to 4.02 GiB held where 3.83 do, for no speed. The process holds its peak of memory until it ends, so only a
    process that is a worker asks for it. Other C libraries decide for themselves.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MALLOC_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_MALLOC_TRIM_THRESHOLD, 2**31 - 1)
