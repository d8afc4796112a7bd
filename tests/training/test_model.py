"""Models: what is counted is what is built; packing keeps documents apart; roots are named by their weights."""

from pathlib import Path

import pytest
import torch

from splitray.errors import UserError
from splitray.training.engine import largest_divisor
from splitray.training.family import Packing, Size
from splitray.training.model import build, root_hash, size
from splitray.training.packing import packed_logits
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape
from tests.support import tiny

SHAPES = [
    ModelShape(hidden=16, layers=1, heads=2),
    ModelShape(hidden=48, layers=3, heads=6, kv_heads=2),
    ModelShape(hidden=32, layers=2, intermediate=40),
]


def made(shape: ModelShape, tied: bool = True, seed: int = 0) -> Recipe:
    named = {"content_hash": "", "vocab": 100, "end_token": 0}
    return recipe(shape, tiny.training(tie_embeddings=tied), named, tiny.WEIGHTS, seed)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.label)
@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_those_of_the_model(shape: ModelShape, tied: bool) -> None:
    """N is every weight but the input table; a tied table counts once, as the head."""
    model = build(made(shape, tied))
    total = sum(p.numel() for p in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    counted = size(shape, 100, tiny.training(tie_embeddings=tied))
    assert counted == Size(total if tied else total - table, total, shape.hidden or 0, shape.layers or 0)


def test_a_model_on_disk_is_counted_named_and_built(tmp_path: Path) -> None:
    for tied in (True, False):
        source = build(made(SHAPES[1], tied))
        folder = tmp_path / f"tied-{tied}"
        source.save_pretrained(folder)
        shape = ModelShape(path=str(folder))
        assert size(shape, 100, tiny.training(tie_embeddings=tied)) == size(
            SHAPES[1], 100, tiny.training(tie_embeddings=tied)
        )
        again = build(made(shape, tied, seed=7))
        assert all(torch.equal(p, q) for p, q in zip(source.parameters(), again.parameters(), strict=True))
    assert root_hash(SHAPES[0]) is None
    hashes = {root_hash(ModelShape(path=str(tmp_path / f"tied-{t}"))) for t in (True, False)}
    assert len(hashes) == 2 and None not in hashes


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no readable config\.json"):
        size(ModelShape(path=str(tmp_path)), 100, tiny.training())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no \.safetensors files; pickled weights"):
        size(ModelShape(path=str(tmp_path)), 100, tiny.training())


def test_initial_weights_are_the_seed_s() -> None:
    first, again, other = (build(made(SHAPES[0], seed=s)) for s in (3, 3, 4))
    pairs = [list(zip(first.parameters(), m.parameters(), strict=True)) for m in (again, other)]
    assert all(torch.equal(p, q) for p, q in pairs[0]) and not all(torch.equal(p, q) for p, q in pairs[1])


def test_packed_documents_do_not_see_each_other() -> None:
    """Logits of a packed row equal those of each document run alone, positions restarting; else they do not."""
    model = build(made(SHAPES[1])).eval()
    documents = [[5, 9, 7, 0], [3, 0], [8, 8, 2, 6, 1]]
    row = torch.tensor([[token for document in documents for token in document]])
    with torch.no_grad():
        packed = packed_logits(model, row, 0, Packing.MASK)[0]
        alone = torch.cat([model(input_ids=torch.tensor([d])).logits[0] for d in documents])
        crossing = packed_logits(model, row, 0, None)[0]
        plain = model(input_ids=row).logits[0]
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(crossing, plain)
    assert (crossing[4:] - alone[4:]).abs().max() > 1e-3


def test_micro_batches_divide_the_batch() -> None:
    assert [largest_divisor(*pair) for pair in ((12, 5), (12, 12), (12, 99), (7, 3), (1, 4))] == [4, 12, 12, 1, 1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden": 16}, "give hidden and layers, or path"),
        ({"hidden": 16, "layers": 1, "path": "x"}, "either path or the dimensions"),
        ({"hidden": 30, "layers": 1, "heads": 4}, "hidden 30 is not a multiple of heads 4"),
        ({"hidden": 18, "layers": 1, "heads": 2}, "hidden/heads = 9 must be even"),
        ({"hidden": 32, "layers": 1, "heads": 4, "kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
    ],
)
def test_shapes_that_cannot_work_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelShape(**fields)
