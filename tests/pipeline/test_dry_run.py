"""The dry run's tree and costs, counted again by hand; it needs neither data nor a cluster."""

from pathlib import Path
from typing import Any

import pytest

from splitray import law as laws
from splitray.config import Config, load
from splitray.errors import UserError
from splitray.executor.accelerators import ACCELERATORS
from splitray.pipeline.dry_run import foresee
from splitray.pipeline.dry_run_table import _disk
from splitray.pipeline.job import Job
from splitray.pipeline.programme import CorpusFacts, Programme, labels
from splitray.pipeline.rates import measured_rates
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.runner import go
from splitray.pipeline.scheduling import speeds_of
from splitray.pipeline.stages import WORK
from splitray.pipeline.standing import Standing
from splitray.pipeline.tree import Part, Tree
from splitray.results.stages import CorpusResult, PlanResult, Searched, SearchResult, SearchRound, Trial, TrialModel
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.memory import step_bytes
from splitray.training.model import size
from splitray.training.settings import ModelShape
from splitray.units import human
from tests.support import CONFIGS, STUDIES, tiny
from tests.support.configs import PLAIN

BATCH = 256
RELEASE = {"E": 1.6, "A": 285.0, "alpha": 0.34, "B": 225.0, "beta": 0.25, "c": 0.046}
RELEASE |= {"lam": 0.14, "delta": 3.9, "p": 0.615, "q": 0.28, "gamma": 0.4}
CORPUS = CorpusFacts("c", 300, 0, ("a", "b"), {"a": 90_000, "b": 30_000})


def config(**changes: Any) -> Config:
    ladder = {
        "shapes": [{"hidden": 16, "layers": 1}],
        "pretrain_tokens": [4096, 8192],
        "specialize_tokens": [512, 1024],
    }
    return Config(**PLAIN | {"ladder": ladder} | changes)


def tree(made: Config, store: Path | None = None, corpus: CorpusFacts | None = None, precision: str = "bf16") -> Tree:
    programme = Programme(made, corpus or CorpusFacts.unbuilt(made), precision)
    return Tree(programme, Store(store) if store else None)


def production(grown: Tree, fraction: float) -> Part:
    return grown.production(grown.programme.final().split(fraction))


def told(made: Config, store: Path, corpus: CorpusFacts | None = None) -> str:
    return str(foresee(made, str(store), Standing(corpus=corpus)))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_production_costs_its_budget(tmp_path: Path, fraction: float) -> None:
    part = production(tree(config()), fraction)
    assert part.tokens == 65536 and part.reused == 0
    split, models = round(fraction * 256) * 256, 1 if fraction == 1 else 2
    assert part.leaf_tokens == pytest.approx(models * split + (65536 - split), abs=2 * BATCH)


def test_the_ladder_shares_its_trunk(tmp_path: Path) -> None:
    """D 4096 and 8192, D' 0, 512, 1024 of two domains: ten leaves, 15 % of each in the decay, by hand."""
    part = tree(config()).ladder()
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
    part, operations, held = tree(made).ladder(), 0.0, 0.0
    for segment in part.segments:
        made_of = segment.recipe
        hidden, layers = made_of.shape.width, made_of.shape.depth
        operations += segment.tokens * (6 * made_of.params + 6 * layers * hidden * 64)
        held += (made_of.params + 8192 * hidden) * (4 if segment.final else 12)
    assert part.flops == pytest.approx(operations) and _disk(part) == held


def test_what_stands_counts_as_reused(tmp_path: Path) -> None:
    """Segments published under the corpus's own keys are not to be trained again; without the corpus none is known."""
    whole = production(tree(config(), tmp_path, CORPUS), 0.5)
    trunk = next(s for s in whole.segments if s.source == "mixture")
    Store(tmp_path).attempt(trunk.key).publish({})
    again = production(tree(config(), tmp_path, CORPUS), 0.5)
    assert again.reused == trunk.tokens and again.tokens == 65536 - trunk.tokens
    assert production(tree(config()), 0.5).reused == 0


def test_a_line_reuses_what_the_lines_above_it_train(tmp_path: Path) -> None:
    """A baseline at the planned fraction is the plan itself; at another fraction they share a plateau."""
    made = config(evaluate={"baselines": [0.5]})
    grown = tree(made, tmp_path, CORPUS)
    assert production(grown, 0.5).tokens == 65536 and grown.evaluation(None).tokens == 0
    alone, after = tree(made, tmp_path, CORPUS), tree(made, tmp_path, CORPUS)
    production(after, 0.25)
    # the plateau of the mixture up to the split at 0.25, which the base's trunk holds as a snapshot
    assert alone.evaluation(None).tokens - after.evaluation(None).tokens == 16384


def test_weights_by_tokens_set_the_recipe_and_the_split(tmp_path: Path) -> None:
    """Three quarters of the text are domain a's: so are its share of the mixture and its part of D'."""
    grown = tree(config(weights="tokens"), tmp_path, CORPUS)
    ends = {s.source: s.end - s.start for s in production(grown, 0.5).segments if s.final}
    segment = production(tree(config(weights="tokens"), tmp_path, CORPUS), 0.5).segments[0]
    assert segment.recipe.weights == {"a": 0.75, "b": 0.25}
    assert grown.programme.final().split(0.5).specialize_tokens == {"a": 24576, "b": 8192} and set(ends) == {"a", "b"}
    assert "weights = tokens" in told(config(weights="tokens"), tmp_path)
    assert "weights = tokens" not in told(config(weights="tokens"), tmp_path, CORPUS)


SHAPES = [{"hidden": 8, "layers": 1, "intermediate": 16}, {"hidden": 8, "layers": 1, "intermediate": 96}]


def test_shapes_that_differ_are_models_that_differ() -> None:
    """They share width and depth: told apart in the recipe, in the table's N, and by name."""
    asked = tree(config(ladder=PLAIN["ladder"] | {"shapes": SHAPES})).programme.ladder()
    params = {request.target.recipe.params for _, request in asked}
    assert len(params) == 2 and len({request.target.key for _, request in asked}) == len(asked) == 6
    names = labels([ModelShape(**shape) for shape in SHAPES])
    assert names == ["h8-l1-i16-a2-kv2", "h8-l1-i96-a2-kv2"]


def test_one_model_given_twice_is_trained_and_listed_once() -> None:
    """The second spelling says what the first leaves to the default."""
    twice = [{"hidden": 8, "layers": 1}, {"hidden": 8, "layers": 1, "intermediate": 32}]
    once = tree(config(ladder=PLAIN["ladder"] | {"shapes": twice[:1]})).programme.ladder()
    both = tree(config(ladder=PLAIN["ladder"] | {"shapes": twice})).programme.ladder()
    assert [request for _, request in both] == [request for _, request in once]


def test_model_folders_of_one_name_are_told_apart() -> None:
    paths = ["/m/pythia-a/step1000", "/m/pythia-b/step1000/", "/n/pythia-b/step1000", "/m/other"]
    shapes = [ModelShape(path=path) for path in paths]
    assert labels(shapes) == ["pythia-a/step1000", "m/pythia-b/step1000", "n/pythia-b/step1000", "other"]


def standing(root: Path, made: Config) -> Standing:
    return Standing.of(made, str(root / "run"), str(root / "store"))


def test_what_was_trained_in_the_measured_precision_counts_as_reused(tmp_path: Path) -> None:
    """The default precision, auto, on a machine where fp32 was the faster one."""
    texts = {d: {"train": ["some words here"] * 20, "validation": ["some more"]} for d in ("a", "b")}
    store, made = Store(tmp_path / "store"), config()
    run, built = RunFolder(Folder(tmp_path / "run"), made), CorpusResult(tiny.write_corpus(store, texts), ())
    run.carry_out("corpus", lambda: built, lambda: None)
    run.folder.write_checksummed("precision.json", {"precision": "fp32"})
    found = standing(tmp_path, made)
    assert made.training.precision == "auto" and found.corpus is not None
    for segment in production(tree(made, tmp_path / "store", found.corpus, "fp32"), 0.5).segments:
        store.attempt(segment.key).publish({})
    text = str(foresee(made, str(tmp_path / "store"), found))
    (line,) = (line for line in text.splitlines() if "base and specialists at s = 0.5" in line)
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert (cells[1], cells[2], cells[4]) == ("0", "0", human(65536)) and "auto (fp32: this run began with it)" in text


def test_the_plan_shown_is_the_one_that_is_carried_out(tmp_path: Path) -> None:
    run, known, made = RunFolder(Folder(tmp_path / "run"), config()), laws.Law.known("release", RELEASE), config()
    first, final = (laws.plan(known, params=1.3e9, budget=budget, domains=16) for budget in (240e9, 960e9))
    assert first.split_fraction.value != final.split_fraction.value
    assert standing(tmp_path, made).plan is None
    run.carry_out("plan", lambda: PlanResult(first), lambda: None)
    assert standing(tmp_path, made).plan == first
    run.carry_out("search", lambda: SearchResult(None, final), lambda: None)
    assert standing(tmp_path, made).plan == final
    other = standing(tmp_path, config(law={"form": "release"}))
    assert other.plan is None and other.searched is None, "another fit makes another plan"


def test_a_run_folder_without_its_store_counts_nothing_as_reused(tmp_path: Path) -> None:
    """A folder that was moved away from its store. Its search tried splits by the corpus's domains: a KeyError once."""
    run, made = RunFolder(Folder(tmp_path / "run"), config()), config()
    plan = laws.plan(laws.Law.known("release", RELEASE), params=1.3e9, budget=240e9, domains=2)
    run.carry_out("corpus", lambda: CorpusResult("corpus-gone", ()), lambda: None)
    models = tuple(TrialModel(domain, 512, 3.0, "seg-x") for domain in ("a", "b"))
    trial = Trial(0.5, 1024, 512.0, 3.0, models)
    tried = Searched(1000, 2048, (SearchRound(0, (trial,), plan.split_fraction, 0.0),), "enough rounds")
    run.carry_out("search", lambda: SearchResult(tried, plan), lambda: None)
    found = standing(tmp_path, made)
    assert found.plan == plan and found.searched is None
    text = str(foresee(made, str(tmp_path / "store"), found))
    assert f"the store {tmp_path}/store does not hold corpus-gone" in text and "search" in text


@pytest.mark.parametrize("domains", [2, 4])
def test_an_unsplit_baseline_is_one_model_however_many_domains_it_serves(tmp_path: Path, domains: int) -> None:
    made = config(corpus=PLAIN["corpus"] | {"domains": domains}, evaluate={"baselines": [1.0]})
    part = tree(made).evaluation(None)
    assert part.leaf_tokens == part.tokens == 65536


def shared(share: float, **tokenizer: Any) -> Config:
    """A config that lets its ladder cost `share` times what it does cost."""
    corpus = PLAIN["corpus"] | {"tokenizer": tokenizer}
    plain = config(corpus=corpus)
    whole = production(tree(plain), 1.0).flops
    ladder = plain.ladder.model_dump() | {"max_share": share * tree(plain).ladder().flops / whole}
    return config(corpus=corpus, ladder=ladder, resources={"accelerator": "cpu"})


def test_a_ladder_that_costs_too_much_is_refused_after_it_was_shown(tmp_path: Path) -> None:
    assert "The tree" in told(shared(1.01), tmp_path)
    refused = foresee(shared(0.99), str(tmp_path), Standing())
    with pytest.raises(UserError, match=r"ladder\.max_share = 0\.\d+ allows less"):
        refused.check()
    assert "ladder: 10 leaves" in str(refused) and str(refused).rstrip().endswith(str(refused.refusal))
    foresee(shared(0.99, source="gpt2"), str(tmp_path), Standing()).check()


def test_an_exam_that_cannot_be_read_is_refused_after_the_tree_was_shown(tmp_path: Path) -> None:
    absent = tmp_path / "bar.jsonl"
    found = foresee(config(evaluate={"exams": [{"file": str(absent)}]}), str(tmp_path), Standing(corpus=CORPUS))
    assert "ladder" in str(found)
    with pytest.raises(UserError, match=r"evaluate\.exams\.0: .*bar\.jsonl"):
        found.check()
    absent.write_text('{"question": "1 + 1 =", "choices": [" 2", " 3"], "answer": 0}\n')
    foresee(config(evaluate={"exams": [{"file": str(absent)}]}), str(tmp_path), Standing(corpus=CORPUS)).check()


def test_its_numbers_are_typed(tmp_path: Path) -> None:
    """What a program reads is what the table shows."""
    made = config(model={"hidden": 32, "layers": 1})  # no model of the ladder's: nothing is shared
    result = foresee(made, str(tmp_path), Standing())
    ladder, search, *production, baselines = result.parts
    assert (ladder.name, ladder.segments) == ("ladder: 10 leaves", len(tree(made).ladder().segments))
    assert search.name.startswith("search") and baselines.name.startswith("baselines") and len(production) == 3
    assert all(part.tokens == 65536 and part.tokens_reused == 0 and part.seconds > 0 for part in production)
    assert result.refusal is None and "base and specialists at s = 0.25" in str(result)


class Built(Exception):
    pass


@pytest.mark.parametrize(
    ("made", "until", "expected"),
    [
        (shared(0.99), "report", UserError),
        (shared(1.01), "report", Built),
        (shared(0.99), "corpus", Built),
        (shared(0.99, source="gpt2"), "report", Built),
    ],
    ids=["refused", "cheap enough", "no ladder is asked for", "its vocabulary is not known yet"],
)
def test_no_corpus_is_built_for_a_ladder_that_costs_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Config, until: str, expected: type[Exception]
) -> None:
    def build(job: Job) -> dict[str, Any]:
        raise Built

    monkeypatch.setitem(WORK, "corpus", build)
    run = RunFolder(Folder(tmp_path / "run"), made)
    with pytest.raises(expected):
        go(Job(run, Store(tmp_path / "store")), until)


def test_everything_is_printed_and_nothing_is_touched(tmp_path: Path) -> None:
    made = config(
        resources={"price_per_hour": 2.0, "tokens_per_second": 1000.0, "base_workers": 2},
        model={"hidden": 32, "layers": 1},
    )
    text = told(made, tmp_path / "store")
    counted = size(made.model, made.corpus.tokenizer.vocabulary, made.training)
    assert f"{human(counted.params)} params" in text and "2 workers, ZeRO 1" in text
    for fraction in ("0.1", "0.25", "0.5"):
        assert f"base and specialists at s = {fraction}" in text
    for word in ("ladder: 10 leaves", "search: at most 9 trials", "baselines at s = 1, 0, 0.5", "an hour", "GiB"):
        assert word in text
    found = foresee(made, str(tmp_path / "store"), Standing())
    # 65536 tokens, all of the mixture's at 1.96 times 1000 a second, one group's start, a fifth of a second a segment
    (unsplit,) = (part for part in found.parts if part.name.startswith("baselines at s = 1"))
    group = ACCELERATORS["CPU"].group
    trained = 65536 / (2 * 0.98 * 1000)
    assert unsplit.seconds > group + trained
    for part in found.parts:
        assert part.worker_hours_used <= part.worker_hours <= part.workers * part.seconds / 3600 + 1e-9
        assert part.cost == pytest.approx(part.worker_hours * 2.0)
    assert not (tmp_path / "store").exists()


def test_without_a_measured_speed_the_assumption_is_said(tmp_path: Path) -> None:
    text = " ".join(told(config(), tmp_path).split())
    assert "They assume 2e+10 FLOP/s a worker (assumed of one core in fp32)" in text
    gpu = config(resources={"accelerator": "gpu", "accelerator_type": "L40S"})
    assert "29.7% of the L40S's 3.62e+14 FLOP/s (NVIDIA L40S data sheet" in " ".join(told(gpu, tmp_path).split())


def test_a_measured_speed_goes_before_the_table(tmp_path: Path) -> None:
    """Of the configuration for one shape, and of segments that the store holds; the faster model takes less."""
    named = config(
        resources={"accelerator": "cpu", "tokens_per_second": 30.0, "tokens_per_second_by_shape": {"h16-l1": "100"}}
    )
    programme = Programme.unbuilt(named)
    ladder = programme.size(named.ladder.shapes[0]).params
    assert speeds_of(programme, False).rate(ladder) == 100.0
    assert speeds_of(programme, False, {ladder: 7.0}).rate(ladder) == 100.0, "what is configured goes first"
    assert speeds_of(programme, False).rate(programme.size(ModelShape(hidden=24, layers=1)).params) == 30.0
    for wrong in ({"tokens_per_second_by_shape": {"h16-l1": 0}}, {"accelerator_type": "TPU"}):
        with pytest.raises(ValueError, match=r"not above 0|the table has A100|did you mean"):
            config(resources=wrong)
    plain = Programme(config(), CORPUS, "bf16")
    store, (segment, *_) = Store(tmp_path), tree(config(), None, CORPUS).ladder().segments
    meta = {"seconds": 20.0, "tokens_trained": 4000, "world": 2}
    store.attempt(segment.key).publish(meta)
    assert measured_rates(plain, store, False) == {segment.recipe.params: 100.0}
    assert measured_rates(plain, store, True) == {}, "it ran on CPUs"


@pytest.mark.parametrize("path", sorted(set(CONFIGS.glob("*.yaml")) - set(STUDIES)), ids=lambda p: p.name)
def test_shipped_configs_pass(path: Path, tmp_path: Path) -> None:
    text = told(load(path), tmp_path)
    assert "The tree" in text and "nan" not in text


def test_the_memory_told_is_the_largest_of_all_groups(tmp_path: Path) -> None:
    """Two specialist workers shard less than eight of the base, and a ladder's process shards nothing."""
    training = PLAIN["training"] | {"global_batch_size": 8, "zero_stage": 3, "micro_batch_size": 1}
    made = config(
        training=training, resources={"base_workers": 8, "specialist_workers": 2}, model={"hidden": 512, "layers": 4}
    )
    vocab = made.corpus.tokenizer.vocabulary
    counted = size(made.model, vocab, made.training)

    def held(workers: int) -> float:
        return step_bytes(counted, vocab, Programme.unbuilt(made).training, workers, False, None) / 2**30

    base, specialist = held(8), held(2)
    assert specialist > base + 0.01
    said = " ".join(told(made, tmp_path).split())
    assert f"{specialist:.2f} GiB at most" in said and f"base {base:.2f}, specialists {specialist:.2f}, ladder" in said
    wide = made.model_copy(update={"ladder": made.ladder.model_copy(update={"shapes": [made.model]})})
    assert f"{held(1):.2f} GiB at most" in told(wide, tmp_path)
    smaller = made.model_copy(update={"resources": made.resources.model_copy(update={"base_workers_min": 2})})
    said = " ".join(told(smaller, tmp_path).split())
    assert f"base {specialist:.2f}, specialists {specialist:.2f}" in said, "the fewest workers hold the most each"
    assert "8 workers (fewer while nodes are missing, at least 2)" in said
