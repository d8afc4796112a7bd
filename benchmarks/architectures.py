"""Every causal architecture of transformers as a tiny model folder: what splitray makes of it, and if it is right.

    python -m benchmarks.architectures [NAME ...] [--seconds 120] [--out benchmarks/results/architectures]

Each is built with a few thousand weights, saved, and given to the check that a run makes before its corpus. Beside the
answer stand measurements of the model itself: its parameters counted, how far predictions move when only later tokens
change, and how far packed documents are from each alone. Half an hour on one core; a time limit guards each one. What
OUT holds already is kept, but for what was too slow: delete the file to begin anew.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

from benchmarks.machine import describe
from splitray.errors import UserError
from splitray.training.check import check_model
from splitray.training.folder import described, quiet
from splitray.training.probe import probe_config
from splitray.training.settings import ModelShape, TrainingSettings
from tests.support import causal
from tests.training.test_architectures import apart, louder, moves, table

_NONE = 1e-3  # what rounding stays below


@dataclass
class Found:
    """What came of one architecture.

    Attributes:
        outcome: "taken", "refused", "not built" or "not loaded" (transformers cannot read what it saved), "too slow".
        why: the message of the refusal, or what failed.
        params: N as splitray counts it. counted: N of the built model, counted independently.
        leak: how far predictions move with later tokens, over how far they move with earlier ones.
        apart: by way of packing, how far documents are from each alone.
        could: of a refused one, whether it could have been trained after all, and how.
    """

    name: str
    outcome: str = "taken"
    why: str = ""
    params: int | None = None
    counted: int | None = None
    leak: float | None = None
    apart: dict[str, float] = field(default_factory=dict)
    could: str = ""
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether a taken one counts right, sees no future and keeps documents apart in every way that is offered."""
        kept = bool(self.apart) and max(self.apart.values()) < _NONE
        return self.params == self.counted and self.leak is not None and self.leak < _NONE and kept


class TooSlow(BaseException):
    """The time for one architecture is over. No `Exception`: their own code and ours catch those."""


@contextmanager
def limited(seconds: int) -> Any:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]:.160}"


def look(name: str, folder: Path) -> Found:
    found = Found(name)
    torch.manual_seed(0)
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_config(causal.config(name))
            model(input_ids=torch.ones(1, 5, dtype=torch.long), use_cache=False)
            model.eval().save_pretrained(folder)
    except Exception as error:  # their own code raises whatever a tiny size breaks
        found.outcome, found.why = "not built", first_line(error)
        return found
    found.counted = sum(p.numel() for p in model.parameters()) - table(model)
    refused = None
    try:
        found.params = described(folder).size.params
        shape = ModelShape(path=str(folder))
        check_model(shape, TrainingSettings(sequence_length=32, attention_across_documents=False))
    except UserError as error:
        refused = error
    except Exception as error:
        found.outcome, found.why = "not loaded", first_line(error)
        return found
    louder(model)
    found.leak = moves(model)
    if refused is not None:
        found.outcome, found.why = "refused", str(refused).replace(f"model path {folder}: ", "")
        found.could = could(found, model)
        return found
    for packing in probe_config(model.config).apart:
        found.apart[packing.value] = apart(model, packing)
    return found


def could(found: Found, model: Any) -> str:
    """Whether a refused model could have been trained, by what was measured of it."""
    assert found.leak is not None
    if found.leak >= _NONE:
        return f"no: its predictions move by {found.leak:.0e} with later tokens"
    if "text does not reach" in found.why:
        return "yes: its language model, if the weights that text does not reach were frozen"
    if "keep packed documents apart" in found.why:
        return "yes: with attention_across_documents, as the message says"
    return "yes: it runs, and later tokens do not move its predictions"


def summary(rows: list[Found]) -> dict[str, Any]:
    built = [row for row in rows if row.counted is not None]
    return {
        "architectures": len(rows),
        "built": len(built),
        "outcomes": Counter(row.outcome for row in rows),
        "n_agrees": sum(row.params == row.counted for row in built if row.params is not None),
        "n_asked": sum(row.params is not None for row in built),
        "taken_and_right": sum(row.right for row in rows if row.outcome == "taken"),
        "packing": Counter(next(iter(row.apart)) for row in rows if row.apart),
        "refused_that_could": sorted(row.name for row in rows if row.could.startswith("yes")),
        "refused_rightly": sorted(row.name for row in rows if row.could.startswith("no")),
        "taken_and_wrong": sorted(row.name for row in rows if row.outcome == "taken" and not row.right),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures; default all")
    parser.add_argument("--seconds", type=int, default=120, help="limit of one architecture")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.out / "architectures.json" if options.out else None
    rows = [Found(**row) for row in json.loads(file.read_text())["rows"]] if file and file.exists() else []
    rows = [row for row in rows if row.outcome != "too slow" and row.name not in options.names]
    for name in [n for n in options.names or NAMES if n not in {row.name for row in rows}]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                with limited(options.seconds):
                    row = look(name, Path(folder))
            except TooSlow:
                row = Found(name, "too slow", f"more than {options.seconds} s")
            except Exception as error:  # one that breaks our own check is a finding, not the end of the survey
                row = Found(name, "broke the check", first_line(error))
        row.seconds = round(time.monotonic() - began, 1)
        rows.append(row)
        print(f"{name:24} {row.outcome:10} {row.seconds:6} s  {row.could or row.why or row.apart}"[:160], flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            rows.sort(key=lambda row: row.name)
            made: dict[str, Any] = {"machine": describe("torch", "transformers"), "summary": summary(rows)}
            made["rows"] = [asdict(row) for row in rows]
            file.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(summary(rows), indent=1))
    sys.exit(0 if all(row.right or row.outcome != "taken" for row in rows) else 1)


if __name__ == "__main__":
    main()
