"""The dry run's tree and costs, counted again by hand; it needs neither data nor a cluster."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_config import PLAIN

from splitray.config import Config, load
from splitray.dry_run import _disk, _flops, _memory, _Tree, show
from splitray.numbers import human
from splitray.store import Store
from splitray.training.model import size

BATCH = 256
CORPUS = {"content_hash": "c", "vocab": 300, "end_token": 0, "domains": ["a", "b"]}


def config(**changes: Any) -> Config:
    ladder = {
        "shapes": [{"hidden": 16, "layers": 1}],
        "pretrain_tokens": [4096, 8192],
        "specialize_tokens": [512, 1024],
    }
    return Config(**PLAIN | {"ladder": ladder} | changes)


def told(made: Config, store: Path, corpus: dict[str, Any] | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(made, str(store), None, corpus, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_production_costs_its_budget(tmp_path: Path, fraction: float) -> None:
    part = _Tree(config(), str(tmp_path), None).production(fraction)
    assert part.tokens == 65536 and part.reused == 0
    split = round(fraction * 256) * 256
    assert part.leaf_tokens == pytest.approx(2 * split + (65536 - split), abs=2 * BATCH)


def test_the_ladder_shares_its_trunk(tmp_path: Path) -> None:
    """D 4096 and 8192, D' 0, 512, 1024 of two domains: ten leaves, 15 % of each in the decay, by hand."""
    part = _Tree(config(), str(tmp_path), None).ladder()
    leaves = [(d, after) for d in (16, 32) for after in (0, 2, 4) for _ in range(2 if after else 1)]
    assert part.leaf_tokens == sum(d + after for d, after in leaves) * BATCH
    # batches in the decay are the leaf's own (its mixture part shared by the two domains); the plateau is shared
    own, trunk = 0, 0
    for d in (16, 32):
        for after in (0, 2, 4):
            decay = round(0.15 * (d + after))
            mixture = max(0, decay - after)
            own += mixture + min(decay, after) * (2 if after else 1)
            trunk = max(trunk, d - mixture)
        # the plateau on a domain, of the longer leaf alone, where its decay does not reach back to the split
        own += 2 * max(max(0, after - round(0.15 * (d + after))) for after in (2, 4))
    assert part.tokens == (own + trunk) * BATCH
    assert part.tokens < 0.65 * part.leaf_tokens


def test_flops_and_disk_are_each_model_s_own(tmp_path: Path) -> None:
    """Two shapes in one ladder: 6 N + 6 L h S FLOPs a token; 4 bytes a weight of a leaf, 12 where children start."""
    shapes = [{"hidden": 16, "layers": 1}, {"hidden": 48, "layers": 3}]
    made = config(ladder=PLAIN["ladder"] | {"shapes": shapes}, training=PLAIN["training"] | {"tie_embeddings": False})
    part, operations, held = _Tree(made, str(tmp_path), None).ladder(), 0.0, 0.0
    for segment in part.segments:
        values = segment.recipe.values
        hidden, layers = values["model"]["hidden"], values["model"]["layers"]
        operations += segment.tokens * (6 * values["params"] + 6 * layers * hidden * 64)
        held += (values["params"] + 8192 * hidden) * (4 if segment.final else 12)
    assert _flops(made, part) == pytest.approx(operations) and _disk(part) == held


def test_what_stands_counts_as_reused(tmp_path: Path) -> None:
    """Segments published under the corpus's own keys are not to be trained again; without the corpus none is known."""
    tree = _Tree(config(), str(tmp_path), CORPUS)
    whole = tree.production(0.5)
    trunk = next(s for s in whole.segments if s.source == "mixture")
    Store(tmp_path).attempt(trunk.key).publish({})
    again = _Tree(config(), str(tmp_path), CORPUS).production(0.5)
    assert again.reused == trunk.tokens and again.tokens == 65536 - trunk.tokens
    assert _Tree(config(), str(tmp_path), None).production(0.5).reused == 0


def test_everything_is_printed_and_nothing_is_touched(tmp_path: Path) -> None:
    made = config(resources={"price_per_hour": 2.0, "tokens_per_second": 1000.0, "base_workers": 2})
    text = told(made, tmp_path / "store")
    counted = size(made.model, made.corpus.tokenizer.vocabulary, True)
    assert f"{human(counted.params)} params" in text and "2 workers, ZeRO 1" in text
    for fraction in ("0.1", "0.25", "0.5"):
        assert f"base and specialists at s = {fraction}" in text
    for word in ("ladder: 10 leaves", "search: at most 9 trials", "baselines at s = 1, 0, 0.5", "an hour", "GiB"):
        assert word in text
    # 65536 tokens at 1000 a second on each of two workers
    assert "33 s" in text
    assert not (tmp_path / "store").exists()


def test_without_a_measured_speed_the_assumption_is_said(tmp_path: Path) -> None:
    assert "Time assumes 2e+10 FLOP/s a worker" in told(config(), tmp_path)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "configs").glob("*.yaml")), ids=lambda p: p.name
)
def test_shipped_configs_pass(path: Path, tmp_path: Path) -> None:
    text = told(load(path), tmp_path)
    assert "The tree" in text and "nan" not in text


def test_memory_falls_as_states_are_sharded() -> None:
    """16 bytes a weight at stage 0, and by Rajbhandari et al. 2020 what stages 1, 2 and 3 leave of it on 4 workers."""
    made = config(training=PLAIN["training"] | {"batch_sequences": 8, "micro_batch": 1})
    counted = size(made.model, 8192, True)

    def bytes_held(stage: int, workers: int) -> float:
        staged = made.model_copy(update={"training": made.training.model_copy(update={"zero_stage": stage})})
        return _memory(counted, staged, workers)

    activations = 64 * (34 * 16 * 1 + 8 * 8192)
    per_weight = [(bytes_held(stage, 4) - activations) / counted.total for stage in (0, 1, 2, 3)]
    assert per_weight == pytest.approx([16, 8 + 12 / 4, 4 + 16 / 4, 20 / 4])


def test_the_memory_told_is_the_largest_of_all_groups(tmp_path: Path) -> None:
    """Two specialist workers shard less than eight of the base, and a ladder's process shards nothing."""
    training = PLAIN["training"] | {"batch_sequences": 8, "zero_stage": 3, "micro_batch": 1}
    made = config(
        training=training, resources={"base_workers": 8, "specialist_workers": 2}, model={"hidden": 512, "layers": 4}
    )
    counted = size(made.model, made.corpus.tokenizer.vocabulary, True)
    base, specialist = (_memory(counted, made, workers) / 2**30 for workers in (8, 2))
    assert specialist > base + 0.01
    said = " ".join(told(made, tmp_path).split())
    assert f"{specialist:.2f} GiB at most" in said and f"base {base:.2f}, specialists {specialist:.2f}, ladder" in said
    wide = made.model_copy(update={"ladder": made.ladder.model_copy(update={"shapes": [made.model]})})
    assert f"{_memory(counted, made, 1) / 2**30:.2f} GiB at most" in told(wide, tmp_path)
