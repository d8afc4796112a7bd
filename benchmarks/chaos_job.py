"""The small job that `chaos.py` and `same_bits.py` disturb, and how its processes are told apart."""

from typing import Any

import psutil

CONFIG: dict[str, Any] = {
    "name": "chaos",
    "budget": 131072,
    "corpus": {
        "sources": ["environment"],
        "environment_megabytes": 4,
        "domains": 3,
        "tfidf": {"dimensions": 32},
        "tokenizer": {"vocabulary": 512},
    },
    "model": {"hidden": 32, "layers": 2},
    "training": {
        "sequence_length": 64,
        "global_batch_size": 8,
        "warmup_tokens": 1024,
        "precision": "fp32",
        "checkpoint_seconds": 0.5,
    },
    "ladder": {
        "shapes": [{"hidden": 16, "layers": 1}, {"hidden": 24, "layers": 1}],
        "pretrain_tokens": [16384, 65536],
        "specialize_tokens": [4096, 32768],
        "domains": 2,
        "max_share": 50,
    },
    "law": {"bootstrap": 20},
    "search": {"at": "target", "trials_per_round": 2, "max_rounds": 1},
    "evaluate": {"validation_tokens": 8192, "baselines": [1.0]},
    # the capacity is what the cluster grows back to while a node is missing
    "resources": {"base_workers": 2, "capacity": 2, "silence_seconds": 15.0},
}
# the title that Ray gives a process of the role; every other role is known to the harness itself
TITLES = {
    "data worker": ("ray::Map", "ray::Read", "ray::corpus:"),
    "ladder actor": ("ray::ladder",),
    "train worker": ("ray::RayTrainWorker",),
    "group supervisor": ("ray::base",),
    "tune trial": ("ray::ImplicitFunc",),
    "specialist actor": ("ray::specialist[",),
    "coordinator": ("ray::Coordinator", "ray::coordinator"),
}


HANGS = ("ladder actor", "train worker", "group supervisor", "specialist actor", "coordinator")


def is_titled(process: psutil.Process, title: str | tuple[str, ...]) -> bool:
    """Whether a process is alive and Ray has given it such a title."""
    try:
        titled = (process.cmdline() or [""])[0].startswith(title)
        return bool(titled and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
