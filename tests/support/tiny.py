"""The smallest things that really train: a model of 3k weights, token arrays with known domains, a corpus on disk."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splitray.corpus.corpus import content_hash
from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import Encoder, fit_tokenizer
from splitray.storage.checksum import sha256_file
from splitray.storage.store import Store
from splitray.training.data import Order
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, Schedule, TrainingSettings
from splitray.training.tree import Leaf, Target, grow

VOCAB, DECAY = 64, 0.25
SCHEDULE = Schedule(DECAY)
SHAPE = ModelShape(hidden=16, layers=1, heads=2)
WEIGHTS = {"a": 0.5, "b": 0.5}


def training(**changes: Any) -> TrainingSettings:
    """Batches of 4 x 16 = 64 tokens."""
    plain: dict[str, Any] = {
        "sequence_length": 16,
        "global_batch_size": 4,
        "learning_rate": 1e-2,
        "reference_hidden": 16,
    }
    plain |= {"warmup_tokens": 128, "precision": "fp32", "micro_batch_size": 2, "decay_fraction": DECAY}
    return TrainingSettings(**plain | changes)


def make_recipe(settings: TrainingSettings | None = None, seed: int = 0, **corpus: Any) -> Recipe:
    named = {"content_hash": "tiny", "vocab": VOCAB, "end_token": 0} | corpus
    return recipe(SHAPE, settings or training(), named, WEIGHTS, seed)


def arrays(windows: int = 40, length: int = 16, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Training shards of domains a and b: documents of 5 to 30 tokens, each with its own half of the ids."""
    draw, made = np.random.default_rng(seed), {}
    for place, name in enumerate(sorted(WEIGHTS)):
        low = 1 + place * (VOCAB // 2)
        stream = low + (draw.random(windows * length + 1) ** 4 * (VOCAB // 2 - 1)).astype(np.int64)
        stream[np.cumsum(draw.integers(5, 30, size=len(stream) // 30))] = 0
        made[name] = [stream[: len(stream) // 2].astype(np.uint16), stream[len(stream) // 2 :].astype(np.uint16)]
    return made


def order(length: int = 16, seed: int = 0, weights: Mapping[str, float] = WEIGHTS) -> Order:
    return Order(arrays(length=length), weights, length, seed)


def segments(recipe: Recipe, *leaves: Leaf, trunks: bool = True, replay: float = 0.0) -> list[Any]:
    """What an empty store lacks of some leaves (and, with `trunks`, of their states at the split)."""
    schedule = replace(SCHEDULE, replay_share=replay)
    targets = [Target.leaf(recipe, leaf, schedule) for leaf in leaves]
    if trunks:
        made = (Target.trunk(recipe, leaf, schedule) for leaf in leaves if leaf.domain is not None)
        targets += [t for t in made if t is not None]
    return grow(targets, lambda line: [])


def write_corpus(
    store: Store,
    texts: Mapping[str, Mapping[str, Sequence[str]]],
    vocabulary: int = 300,
    extras: Callable[[Path], object] = lambda folder: None,
    pieces: int = 1,
) -> str:
    """Publish texts[domain][split] as a corpus that `Corpus.open` reads, but for router and picture; its key.

    `extras` may add files to its folder. Training texts are cut into so many `pieces`, each a shard.
    """
    attempt = store.attempt("corpus-tiny")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        every = [t for splits in texts.values() for t in splits["train"]]
        fit_tokenizer(every, TokenizerSettings(vocabulary=vocabulary), root / "tokenizer")
        encoder = Encoder(root / "tokenizer")
        (root / "shards").mkdir()
        (root / "documents").mkdir()
        shards = {
            d: {s: _shards(root, encoder, f"{d}-{s}", t, pieces if s == "train" else 1) for s, t in splits.items()}
            for d, splits in texts.items()
        }
        manifest = {
            "domains": list(texts),
            "shards": shards,
            "tokenizer": {
                "sha256": sha256_file(root / "tokenizer/tokenizer.json"),
                "vocabulary": encoder.vocabulary,
            },
            "end_token": encoder.end,
            "dtype": encoder.dtype.name,
        }
        manifest |= {"content_hash": content_hash(manifest), "validation_hash": content_hash(manifest, ("validation",))}
        (root / "manifest.json").write_text(json.dumps(manifest))
        extras(root)
        attempt.add_tree(root)
    return attempt.publish({}).key


def _shards(root: Path, encoder: Encoder, name: str, texts: Sequence[str], pieces: int) -> list[dict[str, Any]]:
    if pieces == 1:
        return [_shard(root, encoder, name, texts)]
    return [_shard(root, encoder, f"{name}-{n}", texts[n::pieces]) for n in range(pieces)]


def _shard(root: Path, encoder: Encoder, name: str, texts: Sequence[str]) -> dict[str, Any]:
    tokens = encoder.encode(list(texts))
    counts = [len(t) for t in tokens]
    np.save(root / f"shards/{name}.npy", np.concatenate(tokens), allow_pickle=False)
    sizes = [len(t.encode()) for t in texts]
    names = [f"{name}/{i}" for i in range(len(texts))]
    columns = {"id": names, "group": names, "start": np.cumsum([0, *counts[:-1]])}
    columns |= {"tokens": counts, "bytes": sizes, "text": list(texts)}
    pq.write_table(pa.table(columns), root / f"documents/{name}.parquet")
    file = f"shards/{name}.npy"
    told = {"file": file, "tokens": sum(counts), "documents": len(texts), "bytes": sum(sizes)}
    return told | {"sha256": sha256_file(root / file)}
