"""A study small enough for a test: three vocabularies, one of them the topic, and an exam about it."""

import json
import random
from pathlib import Path
from typing import Any

from tests.support.configs import WORDS, write_corpus

TOPIC = "court"


def write_exam(path: Path, questions: int = 8) -> None:
    """Which words go on: those of the topic, or those of another vocabulary. Too short to be found in the corpus."""
    draw = random.Random(1)
    rows = []
    for _ in range(questions):
        topic, other = (WORDS[kind].split() for kind in (TOPIC, "sea"))
        texts = [" ".join(draw.sample(words, 3)) for words in (topic, topic, other)]
        right = draw.randrange(2)
        choices = [texts[1], texts[2]] if right == 0 else [texts[2], texts[1]]
        rows.append({"question": texts[0], "choices": choices, "answer": right})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def write_given(folder: Path) -> None:
    """A GPT-2 of some thousand weights, as people bring it, with a tokenizer of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    from splitray.corpus.settings import TokenizerSettings
    from splitray.corpus.tokenizer import train_bpe
    from tests.support import causal

    torch.manual_seed(0)
    config = causal.config("gpt2")
    config.vocab_size = 280
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_bpe(list(WORDS.values()), TokenizerSettings(vocabulary=280)).save_pretrained(folder)


def study(folder: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of a study of `write_corpus`, which is written to the folder with an exam beside it."""
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus")
        write_exam(folder / "bar.jsonl")
    return {
        "name": "court",
        "corpus": {
            "sources": [str(folder / "corpus")],
            "group_column": "source",
            "validation_share": 0.15,
            "near_duplicate": None,
            "tfidf": {"dimensions": 16},
            "tokenizer": {"vocabulary": 300},
        },
        "topic": {
            "name": "courts",
            "examples": {"column": "kind", "values": [TOPIC], "documents": 400},
            "filter": {"options": {"options": {"dimensions": 16}}},
        },
        "own": {
            "shapes": [{"hidden": hidden, "layers": 1} for hidden in (8, 12, 16, 24)],
            "pretrain_tokens": 4096,
        },
        "arms": ["general", "filtered", "quality", "mix"],
        "tokens": [1024, 4096],
        "seeds": 1,
        "training": {
            "sequence_length": 32,
            "global_batch_size": 8,
            "warmup_tokens": 256,
            "precision": "fp32",
            "checkpoint_seconds": 0.5,
        },
        "measure": {"validation_tokens": 2048, "exams": [str(folder / "bar.jsonl")]},
        "store": str(folder / "store"),
        "run_dir": str(folder / "run"),
        **changes,
    }
