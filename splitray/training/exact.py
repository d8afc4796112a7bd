"""The same bits on GPUs: kernels and reductions whose order does not change from run to run.

Flash attention's backward pass and the gradient of an embedding add in whatever order threads come; cuBLAS may share
a workspace between streams; NCCL chooses how it reduces by what it measures.
"""

import os

# Read by cuBLAS and NCCL when a process first uses them; a choice of the user's stands.
_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"}


def use_exact(wanted: bool) -> None:
    """Have this process compute the same bits for the same steps on the same GPUs, or as fast as may be.

    Called before a process group's first collective. On CPUs nothing changes: their bits are the same anyway.
    """
    import torch

    if not torch.cuda.is_available():
        return
    if wanted:
        for name, value in _VARIABLES.items():
            os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    torch.backends.cudnn.benchmark = False
