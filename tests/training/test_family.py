"""Families: one class makes a kind of model known, from the config to the end of its training."""

import re
import sys
from pathlib import Path

import pytest
import torch

from splitray.errors import UserError
from splitray.storage.store import Store
from splitray.training.check import check_model
from splitray.training.family import REGISTRY, find
from splitray.training.loop import Hooks, train
from splitray.training.model import build, size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape
from splitray.training.tree import Leaf
from tests.support import ROOT, tiny

# The example of the page on extending: what it shows is what is tested here.
(OWN,) = (
    code
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
    if "class Gpt(Family)" in code
)
SEES_AHEAD = """
from splitray.training.family import Family, register
from transformers import BertConfig, BertLMHeadModel

@register
class Ahead(Family):
    name = "ahead"

    def build(self, spec):
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        return BertLMHeadModel(BertConfig(vocab_size=spec.vocab, **sizes))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, as it lies in the working directory of a job; the name of its family."""
    for name, text in (("own_models", OWN), ("models_ahead", SEES_AHEAD)):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("gpt", "ahead"):
        monkeypatch.delitem(REGISTRY, name, raising=False)
    return "own_models:gpt"


def shape_of(name: str, **more: object) -> ModelShape:
    return ModelShape(hidden=16, layers=2, family=name, **more)


def made(shape: ModelShape, **changes: object) -> Recipe:
    named = {"content_hash": "tiny", "vocab": tiny.VOCAB, "end_token": 0}
    return recipe(shape, tiny.training(**changes), named, tiny.WEIGHTS, 0)


@pytest.mark.parametrize("across", [True, False])
def test_a_family_of_ten_lines_trains(own: str, across: bool, tmp_path: Path) -> None:
    """Sized, checked, trained to a lower loss, and read back from its marker."""
    shape, settings = shape_of(own), tiny.training(attention_across_documents=across, learning_rate=3e-2)
    check_model(shape, settings, tiny.VOCAB)
    recipe_of = made(shape, attention_across_documents=across, learning_rate=3e-2)
    model = build(recipe_of)
    total = sum(p.numel() for p in model.parameters())
    assert size(shape, tiny.VOCAB, settings).params == recipe_of.params == total, "GPT-2 shares its table with its head"
    store = Store(tmp_path / "store")
    losses: list[float] = []
    for piece in tiny.segments(recipe_of, Leaf(16 * recipe_of.batch_tokens), trunks=False):
        hooks = Hooks(progress=lambda p: losses.append(p.loss), every_seconds=0)
        published = train(piece, tiny.order(), store, settings, hooks)
    assert sum(losses[-4:]) / 4 < losses[0] - 0.2
    assert Recipe.from_json(published.meta["recipe"]) == recipe_of


def test_options_and_families_are_part_of_the_key(own: str) -> None:
    plain, other = made(shape_of(own)), made(shape_of(own, options={"heads": 4}))
    ours = made(ModelShape(hidden=16, layers=2))
    assert len({plain.hash, other.hash, ours.hash}) == 3
    assert {"family", "options"}.isdisjoint(ours.to_json()["model"]), "keys of before there were families stay"
    assert Recipe.from_json(other.to_json()) == other
    assert shape_of(own).label != ModelShape(hidden=16, layers=2).label


def test_a_family_that_sees_the_future_is_refused(own: str) -> None:
    with pytest.raises(UserError, match=r"model family models_ahead:ahead: its predictions change with the tokens"):
        check_model(shape_of("models_ahead:ahead"), tiny.training(), tiny.VOCAB)


def test_an_unknown_family_is_told_when_the_config_is_read() -> None:
    with pytest.raises(ValueError, match=r"'lama' is not known; known families: .*llama"):
        shape_of("lama")
    with pytest.raises(ValueError, match=r"module 'nowhere' cannot be imported"):
        shape_of("nowhere:x")
    with pytest.raises(ValueError, match="give path or family, not both"):
        ModelShape(path="x", family="llama")
    with pytest.raises(ValueError, match="the family folder needs path"):
        shape_of("folder")


def test_vectors_have_no_weight_decay() -> None:
    model = build(tiny.make_recipe())
    decayed, plain = find("llama").parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in plain["params"]} == {1} and all(p.dim() > 1 for p in decayed["params"])
    assert sum(p.numel() for g in (decayed, plain) for p in g["params"]) == sum(p.numel() for p in model.parameters())
    assert isinstance(model, torch.nn.Module)
