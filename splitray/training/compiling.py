"""torch.compile that may fail: tried before training, with a cache that a kill cannot spoil.

A process that is killed while it compiles can leave libraries of 0 bytes in the cache, which every later start on that
machine would fail to load. So a failed try is made once more in a folder of this process's own. Where that goes well,
the common folder was spoilt and is put aside; where it does not, the model is trained uncompiled.
"""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from splitray.runtime.compat import allow_recompiles, forget_compiled
from splitray.training.blocks import blocks_of

_log = logging.getLogger(__name__)

Way = Literal["blocks", "whole"]
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
_SIZES = 256  # compiled models that a process keeps; a ladder of more has other worries


def mark(trunk: torch.nn.Module, way: Way) -> list[torch.nn.Module]:
    """Have a model's parts compiled at their first call; the parts.

    A host trains models of many sizes with one code. By torch's default the ninth runs uncompiled, with a warning.
    """
    allow_recompiles(_SIZES)
    parts = blocks_of(trunk) if way == "blocks" else []
    parts = parts or [trunk]
    for part in parts:
        part.compile(dynamic=False)
    return parts


def compile_or_not(what: str, parts: list[torch.nn.Module], attempt: Callable[[], object]) -> bool:
    """Try marked parts on a batch; where they cannot be compiled, have them run uncompiled and say so.

    Args:
        what: is done with these parts, as a sentence begins.
        attempt: a forward and backward pass through the parts; its errors are taken for those of the compiler.

    Returns:
        Whether they are compiled.
    """
    shared = _shared_folder()
    why = _failure(attempt)
    if why is None:
        return True
    own = Path(tempfile.mkdtemp(prefix="splitray-compile-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    os.environ[_FOLDER] = str(own)
    forget_compiled()
    again = _failure(attempt)
    if again is None:
        _put_aside(shared)
        _log.warning("compile: %s held what could not be loaded (%s); it is put aside, and filled anew", shared, why)
        return True
    os.environ[_FOLDER] = str(shared)
    forget_compiled()
    for part in parts:
        part._compiled_call_impl = None
    _log.warning(
        "compile: %s uncompiled, which is slower, since torch.compile failed (%s); training.compile: false says so "
        "from the start",
        what,
        again,
    )
    return False


def _failure(attempt: Callable[[], object]) -> str | None:
    """What went wrong, in one line: torch names its backend first, and then the error.

    Memory that is short is no fault of the compiler.
    """
    try:
        attempt()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        return f"{type(error).__name__}: {' '.join(line.strip() for line in lines[:2])}"[:300]
    return None


def _shared_folder() -> Path:
    """Where compiled code is kept for all of this user's processes on a machine; a folder that is given is used."""
    given = os.environ.get(_FOLDER)
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"splitray-compiled-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[_FOLDER] = str(folder)
    return folder


def _put_aside(folder: Path) -> None:
    """Out of the way in one step, for processes that start now; then deleted."""
    aside: Any = folder.with_name(f"{folder.name}.spoilt-{os.getpid()}")
    try:
        folder.rename(aside)
    except OSError:  # another process was first
        return
    shutil.rmtree(aside, ignore_errors=True)
