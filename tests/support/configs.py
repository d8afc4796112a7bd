"""Configurations: a plain one that only loads, and one of a small corpus that really runs."""

import json
import random
from pathlib import Path
from typing import Any

PLAIN: dict[str, Any] = {
    "name": "t",
    "budget": 65536,
    "corpus": {"sources": ["x.txt"], "domains": 2},
    "model": {"hidden": 16, "layers": 1},
    "training": {"sequence_length": 64, "global_batch_size": 4, "warmup_tokens": 256},
    "ladder": {"shapes": [{"hidden": 16, "layers": 1}], "pretrain_tokens": [4096], "specialize_tokens": [512]},
}

WORDS = {
    "sea": "ship sail wave harbour tide anchor mast captain storm gull reef deck rope salt crew",
    "kitchen": "flour butter oven sugar whisk bowl knead dough yeast crust spice simmer pan stew broth",
    "court": "judge plea verdict appeal witness statute clause oath tribunal counsel motion ruling bail jury writ",
}


def write_corpus(folder: Path) -> None:
    """Three kinds of text, each by its own vocabulary and a few shared words; 40 files of 6 documents a kind."""
    generator = random.Random(0)
    folder.mkdir()
    for kind, words in WORDS.items():
        own = words.split()
        for number in range(40):
            lines = []
            for _ in range(6):
                text = [
                    generator.choice(own) if generator.random() < 0.8 else generator.choice(["the", "of", "and", "a"])
                    for _ in range(80)
                ]
                lines.append(json.dumps({"text": " ".join(text), "source": f"{kind}-{number}", "kind": kind}))
            (folder / f"{kind}-{number}.jsonl").write_text("\n".join(lines) + "\n")


def config(folder: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "budget": 49152,
        "corpus": {
            "sources": [str(folder)],
            "domains": 3,
            "validation_share": 0.1,
            "near_duplicate": None,
            "tfidf": {"dimensions": 16},
            "tokenizer": {"vocabulary": 300},
        },
        "model": {"hidden": 24, "layers": 1},
        "training": {
            "sequence_length": 32,
            "global_batch_size": 8,
            "warmup_tokens": 512,
            "precision": "fp32",
            "checkpoint_seconds": 0.5,
        },
        "ladder": {
            "shapes": [{"hidden": 8, "layers": 1}, {"hidden": 16, "layers": 1}],
            "pretrain_tokens": [6144, 24576],
            "specialize_tokens": [1024, 8192],
            "domains": 2,
            "max_share": 50,
        },
        "law": {"bootstrap": 10},
        "search": {"at": "ladder", "budget": 12288, "trials_per_round": 2, "max_rounds": 1},
        "evaluate": {"validation_tokens": 4096},
    }
