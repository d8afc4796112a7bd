"""A family of tiny Llamas that take their time while a file says so, so that nodes can come and go in a short run."""

import os
import time
from pathlib import Path
from typing import Any

from splitray.training.family import ModelSpec, register
from splitray.training.llama import Llama

GATE, NAME = "SPLITRAY_TEST_GATE", "slow"  # the environment's name of the file, which holds seconds of every pass
FAMILY = f"{__name__}:{NAME}"


@register
class Slow(Llama):
    name = NAME

    def build(self, spec: ModelSpec) -> Any:
        model: Any = super().build(spec)
        model.model.register_forward_pre_hook(lambda module, inputs: _wait())
        return model


def _wait() -> None:
    gate = Path(os.environ.get(GATE, ""))
    if gate.is_file():
        time.sleep(float(gate.read_text()))
