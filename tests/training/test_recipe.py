"""Recipes: keys that outlive renamings, and the markers of the first release read as they are."""

import json
import pickle
from dataclasses import replace

import pytest

from splitray.errors import CorruptError
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape, Schedule, TrainingSettings
from splitray.training.tree import Leaf, Target

CORPUS = {"content_hash": "abc", "vocab": 300, "end_token": 0}
MADE = {
    "plain": recipe(
        ModelShape(hidden=16, layers=1, heads=2), TrainingSettings(precision="fp32"), CORPUS, {"a": 0.5, "b": 0.5}, 0
    ),
    "grouped": recipe(
        ModelShape(hidden=64, layers=3, heads=4, kv_heads=2, intermediate=96),
        TrainingSettings(
            precision="bf16",
            tie_embeddings=False,
            attention_across_documents=False,
            sequence_length=128,
            global_batch_size=8,
            rope_theta=5e5,
            gradient_clip=0,
            weight_decay=0,
            min_lr_ratio=0,
            warmup_tokens=0,
            learning_rate=1e-3,
            learning_rate_exponent=0,
        ),
        CORPUS,
        {"a": 0.2, "b": 0.3, "c": 0.5},
        7,
    ),
    "weightless": recipe(
        ModelShape(hidden=256, layers=4),
        TrainingSettings(precision="fp32", specialist_lr_multiplier=0.5),
        CORPUS | {"end_token": 5},
        {},
        3,
    ),
}
# As the first release wrote them: the recipe's hash, the key of a leaf with a decay of a quarter, the marker's JSON.
GOLDEN = {
    "plain": (
        "1f976648c1eb0b5c41b0",
        "seg-2bc2d172095694ddd984-000000000049152",
        '{"attention_across_documents": true, "batch_sequences": 32, "beta1": 0.9, "beta2": 0.95, "corpus'
        '": "abc", "end_token": 0, "epsilon": 1e-08, "final_learning_rate": 0.05, "gradient_clip": 1.0, "'
        'learning_rate": 0.008, "model": {"heads": 2, "hidden": 16, "intermediate": 48, "kv_heads": 2, "l'
        'ayers": 1, "path": null}, "params": 8176, "precision": "fp32", "recipe": 2, "root": null, "rope_'
        'theta": 10000.0, "seed": 0, "sequence_length": 256, "tie_embeddings": true, "vocab": 300, "warmu'
        'p_tokens": 32768, "weight_decay": 0.1, "weights": {"a": 0.5, "b": 0.5}}',
    ),
    "grouped": (
        "a17fc96cfa0de32d5be2",
        "seg-76af44cedbba70fb76ff-000000000006144",
        '{"attention_across_documents": false, "batch_sequences": 8, "beta1": 0.9, "beta2": 0.95, "corpus'
        '": "abc", "end_token": 0, "epsilon": 1e-08, "final_learning_rate": 0.0, "gradient_clip": 0.0, "l'
        'earning_rate": 0.001, "model": {"heads": 4, "hidden": 64, "intermediate": 96, "kv_heads": 2, "la'
        'yers": 3, "path": null}, "params": 111808, "precision": "bf16", "recipe": 2, "root": null, "rope'
        '_theta": 500000.0, "seed": 7, "sequence_length": 128, "tie_embeddings": false, "vocab": 300, "wa'
        'rmup_tokens": 0, "weight_decay": 0.0, "weights": {"a": 0.2, "b": 0.3, "c": 0.5}}',
    ),
    "weightless": (
        "1dc51bf50ba9601851f5",
        "seg-da81e7dc4c57a779c8f1-000000000049152",
        '{"attention_across_documents": true, "batch_sequences": 32, "beta1": 0.9, "beta2": 0.95, "corpus'
        '": "abc", "end_token": 5, "epsilon": 1e-08, "final_learning_rate": 0.05, "gradient_clip": 1.0, "'
        'learning_rate": 0.002, "model": {"heads": 8, "hidden": 256, "intermediate": 688, "kv_heads": 8, '
        '"layers": 4, "path": null}, "params": 3241216, "precision": "fp32", "recipe": 2, "root": null, "'
        'rope_theta": 10000.0, "seed": 3, "sequence_length": 256, "tie_embeddings": true, "vocab": 300, "'
        'warmup_tokens": 32768, "weight_decay": 0.1, "weights": {}}',
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_keys_are_those_of_the_first_release(name: str) -> None:
    made, (digest, key, written) = MADE[name], GOLDEN[name]
    leaf = Leaf(4 * made.batch_tokens, 2 * made.batch_tokens, "a")
    assert made.hash == digest
    assert Target.leaf(made, leaf, Schedule(0.25)).key == key
    assert json.dumps(made.to_json(), sort_keys=True) == written


@pytest.mark.parametrize("name", MADE)
def test_a_marker_of_the_first_release_is_read(name: str) -> None:
    again = Recipe.from_json(json.loads(GOLDEN[name][2]))
    assert again == MADE[name] and again.hash == GOLDEN[name][0] and hash(again) == hash(MADE[name])


def test_recipes_hash_apart_and_travel() -> None:
    """A set or a cache keyed by recipes tells them apart; a worker gets an equal one."""
    every = [*MADE.values(), replace(MADE["plain"], seed=1)]
    assert len({hash(r) for r in every}) == len(every) == len(set(every))
    for made in every:
        again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
        assert again == made and again.hash == made.hash


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": None}, r"lacks or adds \['seed'\]"),
        ({"surprise": 1}, r"lacks or adds \['surprise'\]"),
        ({"model": {"hidden": 16}}, r"(?s)no readable model: .*give hidden and layers"),
    ],
)
def test_a_damaged_recipe_is_named(change: dict[str, object], told: str) -> None:
    values = {**MADE["plain"].to_json(), **change}
    with pytest.raises(CorruptError, match=told):
        Recipe.from_json({name: value for name, value in values.items() if value is not None or name == "root"})
