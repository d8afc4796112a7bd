"""The whole job on one GPU: how long each stage takes, and how busy the device is meanwhile."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from tests.support.configs import config

ROOT = Path(__file__).resolve().parent.parent
_STAGE = re.compile(r" stage \d of \d: (\w+)$")
_EVERY = 0.5  # seconds between looks at the device
CONFIG: dict[str, Any] = {
    "name": "gpu",
    "budget": "8M",
    "corpus": {
        "sources": ["environment"],
        "environment_megabytes": 40,
        "domains": 4,
        "tokenizer": {"vocabulary": 4096},
    },
    "model": {"hidden": 256, "layers": 4, "heads": 4},
    "training": {
        "sequence_length": 256,
        "global_batch_size": 64,
        "micro_batch_size": 64,
        "warmup_tokens": 32768,
        "threads": 4,
        "checkpoint_seconds": 20,
    },
    "ladder": {
        "shapes": [{"hidden": 128, "layers": 2, "heads": 2}, {"hidden": 192, "layers": 3, "heads": 3}],
        "pretrain_tokens": [524288, 1048576, 2097152],
        "specialize_tokens": [65536, 262144, 1048576],
        "domains": 2,
        "max_share": 10,
    },
    "law": {"bootstrap": 50},
    "search": {"at": "off"},
    "evaluate": {"validation_tokens": 65536, "baselines": [1.0, 0.0]},
}
# The same on a CPU that stands in, in two minutes.
TINY: dict[str, Any] = config(Path("environment")) | {
    "name": "gpu",
    "budget": 65536,
    "corpus": {
        "sources": ["environment"],
        "environment_megabytes": 2,
        "domains": 2,
        "tokenizer": {"vocabulary": 512},
    },
    "search": {"at": "off"},
    "evaluate": {"validation_tokens": 4096, "baselines": [1.0]},
}


class Utilisation(threading.Thread):
    """The device's share of busy time by nvidia-smi, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, float]] = []
        self._over = threading.Event()

    def run(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._over.wait(_EVERY):
            text = subprocess.run(command, capture_output=True, text=True).stdout
            self.seen.append((time.monotonic(), float(text.splitlines()[0])))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def mean(self, begin: float, end: float) -> float | None:
        inside = [share for at, share in self.seen if begin <= at < end]
        return round(sum(inside) / len(inside), 1) if inside else None


def whole_job(cuda: bool, out: Path) -> dict[str, Any]:
    """Run it; seconds by stage and, on a GPU, its mean utilisation by stage and from the ladder on.

    Its log goes to OUT/job.log, line by line, so that a job that is cut tells how far it came.
    """
    with tempfile.TemporaryDirectory(prefix="splitray-gpu-") as folder:
        written = Path(folder, "job.yaml")
        written.write_text(yaml.safe_dump(CONFIG if cuda else TINY))
        command = [sys.executable, str(ROOT / "jobs/split.py"), "--config", str(written)]
        watch, stages, begun = Utilisation(), dict[str, float](), time.monotonic()
        if cuda:
            watch.start()
        job = subprocess.Popen(
            [*command, "--run-dir", f"{folder}/run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert job.stdout is not None
        lines = []
        out.mkdir(parents=True, exist_ok=True)
        with (out / "job.log").open("w") as log:
            for line in job.stdout:
                lines.append(line.rstrip())
                print(f"{time.monotonic() - begun:6.1f} {lines[-1]}", file=log, flush=True)
                if (found := _STAGE.search(lines[-1])) is not None:
                    stages[found[1]] = time.monotonic()
        code, end = job.wait(), time.monotonic()
        if cuda:
            watch.stop()
        if code:
            raise RuntimeError("the job failed: " + " | ".join(lines[-5:]))
        run = Path(folder, "run")
        shutil.copy(run / "summary.json", out)
        (out / "events.jsonl").write_text("".join(p.read_text() for p in sorted(run.glob("events/*.jsonl"))))
        summary = json.loads((out / "summary.json").read_text())
    ends = [*list(stages.values())[1:], end]
    spans = {name: (at, until) for (name, at), until in zip(stages.items(), ends, strict=True)}
    told: dict[str, Any] = {"seconds": round(end - begun, 1), "split": summary["final_plan"]["split_fraction"]["value"]}
    told["stages_s"] = {name: round(until - at, 1) for name, (at, until) in spans.items()}
    if cuda:
        told["begins_s"] = {name: round(at - begun, 1) for name, (at, _) in spans.items()}
        told["utilisation"] = [[round(at - begun, 1), share] for at, share in watch.seen]
        told["utilisation_by_stage"] = {name: watch.mean(*span) for name, span in spans.items()}
        told["utilisation_from_the_ladder_on"] = watch.mean(stages["ladder"], end)
    return told
