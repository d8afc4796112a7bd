"""The recipe of a model: the resolved values that fix what training gives, and their one written form.

The written form is what keys hash and what every marker holds. Its names are those of the first release, so that keys
and stores outlive every renaming of the fields here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from splitray.errors import CorruptError
from splitray.storage.checksum import fingerprint
from splitray.training.family import ModelSpec
from splitray.training.settings import ModelShape, TrainingSettings

RECIPE_VERSION = 2  # bump by hand when the same recipe no longer gives the same bits
# Models from outside, whose loss has been computed in large chunks since (`fused.py`). Other recipes keep their bits
# and so their version. A store's segments of version 2 are read, scored and continued as they were trained.
LARGE_CHUNKS = 3
# Fields whose written name is another one.
_WRITTEN = {
    "version": "recipe",
    "shape": "model",
    "global_batch_size": "batch_sequences",
    "min_lr_ratio": "final_learning_rate",
}
# Fields that came after keys were made: not written where they are unset, so that those keys stay.
_LATER = ("trainable", "shuffle_tokens")
# Fields that are the training settings' own.
_SETTINGS = (
    *("beta1", "beta2", "epsilon", "weight_decay", "gradient_clip", "warmup_tokens"),
    *("sequence_length", "attention_across_documents", "global_batch_size", "min_lr_ratio"),
    *("precision", "tie_embeddings", "rope_theta", "shuffle_tokens"),
)


@dataclass(frozen=True)
class Recipe:
    """The resolved values that fix what training gives, hashed into every key; one for each model of a run.

    `corpus` is the content hash of the token shards and `weights` the share of every domain in the mixture. `root` is
    the hash of the weights that training continues from, None from scratch. `params` is the law's N.
    `learning_rate` is the peak. `trainable` names the weights that learn, as a pattern of the shell; None: all. A state
    holds these alone, since the others stay those of the root.
    """

    shape: ModelShape
    root: str | None
    params: int
    seed: int
    learning_rate: float
    precision: str
    tie_embeddings: bool
    rope_theta: float
    weights: Mapping[str, float]
    vocab: int
    end_token: int
    corpus: str
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    gradient_clip: float
    warmup_tokens: int
    sequence_length: int
    attention_across_documents: bool
    global_batch_size: int
    min_lr_ratio: float
    version: int = RECIPE_VERSION
    trainable: str | None = None
    shuffle_tokens: int | None = None

    @cached_property
    def hash(self) -> str:
        return fingerprint(self.to_json())

    def __hash__(self) -> int:
        return int(self.hash, 16)

    @property
    def batch_tokens(self) -> int:
        return self.global_batch_size * self.sequence_length

    @property
    def spec(self) -> ModelSpec:
        """What the model's family builds it from."""
        return ModelSpec(
            self.shape, self.vocab, self.end_token, self.sequence_length, self.tie_embeddings, self.rope_theta
        )

    def to_json(self) -> dict[str, Any]:
        """The written form: plain JSON types."""
        named = (f.name for f in fields(self) if f.name not in _LATER or getattr(self, f.name) is not None)
        plain = {_WRITTEN.get(name, name): getattr(self, name) for name in named}
        return plain | {"model": self.shape.identity(), "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that a marker holds.

        Raises:
            CorruptError: a value is missing, or one is there that this version does not know.
        """
        names = {_WRITTEN.get(f.name, f.name): f.name for f in fields(cls)}
        names = {written: name for written, name in names.items() if name not in _LATER or written in values}
        if names.keys() != values.keys():
            raise CorruptError(f"a recipe in the store lacks or adds {sorted(names.keys() ^ values.keys())[:4]}")
        try:
            shape = ModelShape(**values["model"])
        except (TypeError, ValueError) as error:
            raise CorruptError(f"a recipe in the store holds no readable model: {error}") from error
        return cls(**{name: values[written] for written, name in names.items()} | {"shape": shape})


def recipe(
    shape: ModelShape, training: TrainingSettings, corpus: Mapping[str, Any], weights: Mapping[str, float], seed: int
) -> Recipe:
    """The recipe of one model.

    Args:
        corpus: `content_hash`, `vocab` and `end_token` of the token shards.
        weights: share of every domain in the mixture, summing to 1.
        seed: of the initial weights and of the data order.
    """
    assert training.precision != "auto", "resolve the precision first"
    from splitray.training.model import root_hash, size

    counted = size(shape, corpus["vocab"], training)
    root = root_hash(shape)
    if root is None:
        resolved = {"heads": shape.head_count, "kv_heads": shape.kv_head_count, "intermediate": shape.mlp_width}
        shape = shape.model_copy(update=resolved)
    return Recipe(
        shape=shape,
        root=root,
        params=counted.params,
        seed=seed,
        learning_rate=training.peak(counted.hidden),
        weights=dict(weights),
        vocab=corpus["vocab"],
        end_token=corpus["end_token"],
        corpus=corpus["content_hash"],
        version=RECIPE_VERSION if root is None else LARGE_CHUNKS,
        **{name: getattr(training, name) for name in _SETTINGS},
    )
