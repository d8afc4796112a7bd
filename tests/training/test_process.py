"""What importing and calling the library leaves behind in a process that is not a worker's, such as a notebook."""

import ast
import subprocess
import sys

PROGRAM = """
import os, sys
before = dict(os.environ)
import splitray.training.engine, splitray.training.loop, splitray.training.check, splitray.evaluate.measure
from splitray.training import process
import torch
assert not torch.cuda.is_initialized()
assert "ray" not in sys.modules and "deepspeed" not in sys.modules
process.join_world()
assert "deepspeed" in sys.modules
assert "mlflow" not in sys.modules  # DeepSpeed's autotuner imports it: 3 of 9 seconds of a worker's start
import mlflow  # what was hidden meanwhile can be had again
changed = {n for n in before.keys() | os.environ.keys() if before.get(n) != os.environ.get(n)}
print(sorted(changed))
"""


def test_the_environment_is_the_caller_s() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert names(done.stdout).isdisjoint({"DS_ACCELERATOR", "LOCAL_RANK"}), done.stdout


def names(text: str) -> set[str]:

    return set(ast.literal_eval(text.strip().splitlines()[-1]))
