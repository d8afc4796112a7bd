"""`--dry-run`: the tree that a run would grow, and what it would cost. Needs no data and no cluster."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from splitray.config import Config
from splitray.errors import UserError
from splitray.ladder.cost import check_ladder, ladder_steps, unbuilt
from splitray.law import Plan
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.head import logits_at_once
from splitray.training.model import Size, size
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import ModelShape
from splitray.training.split import Split, whole_budget
from splitray.training.tree import Segment, Target, by_recipe, flops, grow
from splitray.units import duration, human

_FRACTIONS = (0.1, 0.25, 0.5)  # shown before a plan exists
_CPU_FLOPS, _GPU_FLOPS = 2e10, 1.6e14  # assumed of one worker: one core in fp32; 40 % of an A100's bf16 peak


@dataclass(frozen=True)
class Part:
    """One line of the dry run: a stage, its segments and what they cost."""

    name: str
    sizes: dict[str, Size]  # of each recipe, by its hash
    segments: list[Segment]
    leaf_tokens: int
    workers: int
    reused: int

    @property
    def tokens(self) -> int:
        return sum(s.tokens for s in self.segments)


@dataclass(frozen=True)
class Standing:
    """What an earlier start left in the run folder.

    `corpus` holds `content_hash`, `vocab`, `end_token` and domain names, so that keys can be compared with the store:
    without it nothing counts as reused. `precision` is what `auto` was measured to be.
    """

    plan: Plan | None = None
    corpus: dict[str, Any] | None = None
    precision: str | None = None

    @classmethod
    def of(cls, run_dir: str, store: str, console: Console) -> "Standing":
        """Of a run folder, where it can be reached."""
        try:
            run = Folder(run_dir)
        except UserError as error:
            console.print(f"Nothing is counted as reused: {error}", markup=False)
            return cls()
        # base and specialists follow the plan that the search settles on
        name = "plan_final.json" if run.exists("stages/search.json") else "plan.json"
        plan = Plan.load(run.fetch(name)) if run.exists(name) else None
        precision = run.read_checksummed("precision.json")["precision"] if run.exists("precision.json") else None
        if not run.exists("stages/corpus.json"):
            return cls(plan, None, precision)
        from splitray.corpus import Corpus

        corpus = Corpus.open(Store(store), run.read_checksummed("stages/corpus.json")["result"]["key"])
        return cls(plan, {**corpus.identity(), "domains": corpus.domains}, precision)


def show(config: Config, store: str, standing: Standing, console: Console) -> None:
    """Print the tree and its cost; without a plan a few split fractions are shown.

    Raises:
        UserError: the ladder costs more than it may; the tree is printed first.
    """
    training = config.training
    precision = standing.precision if training.precision == "auto" else training.precision
    tree, plan = _Tree(config, store, standing.corpus, precision or "bf16"), standing.plan
    gpu = config.resources.accelerator == "gpu"
    console.print(_facts(config, tree, gpu, standing))
    parts = [tree.ladder()]
    if config.search.at != "off":
        parts.append(tree.search(plan))
    fractions = [plan.split_fraction.value] if plan is not None else list(_FRACTIONS)
    parts += [tree.production(f) for f in fractions]
    parts.append(tree.baselines())
    console.print(_table(config, tree, parts, gpu))
    if plan is None:
        console.print("No plan yet: base and specialists are shown for three split fractions.")
    if config.resources.tokens_per_second is None:
        assumed = _GPU_FLOPS if gpu else _CPU_FLOPS
        console.print(
            f"Time assumes {assumed:.2g} FLOP/s a worker; set resources.tokens_per_second to a measured rate."
        )
    per_hour = config.resources.price_per_hour
    if per_hour is not None:
        hours = sum(_seconds(config, p, gpu) * p.workers for p in parts) / 3600
        console.print(f"All lines together: {hours:.1f} worker hours, {hours * per_hour:.2f} at {per_hour:g} an hour.")
    if standing.corpus or config.corpus.tokenizer.source == "bpe":
        check_ladder(config, tree.ladder_targets(), tree.corpus["vocab"])


class _Tree:
    """The targets of every stage, before anything ran."""

    def __init__(self, config: Config, store: str, corpus: dict[str, Any] | None, precision: str = "bf16") -> None:
        self.config, self.store = config, Store(store) if corpus else None
        self.corpus = corpus or unbuilt(config)
        self._training = config.training.model_copy(update={"precision": precision})
        self._pool = int(config.resources.capacity or 1)
        self.names = list(self.corpus["domains"])
        self.weights = dict.fromkeys(self.names, 1.0 / len(self.names))

    def recipe(self, shape: ModelShape, seed: int = 0) -> Recipe:
        return recipe(shape, self._training, self.corpus, self.weights, self.config.seed + seed)

    def size(self, shape: ModelShape) -> Size:
        return size(shape, self.corpus["vocab"], self.config.training)

    def _ends(self, line: str) -> set[int]:
        return {int(k.rsplit("-", 1)[1]) for k in self.store.keys(line + "-")} if self.store else set()

    def _part(self, name: str, targets: Iterable[Target], workers: int) -> Part:
        unique = {t.key: t for t in targets}.values()  # one unsplit model may serve every domain
        groups = by_recipe(unique, lambda t: t.recipe)
        segments = [s for group in groups for s in grow(group, self._ends)]
        whole = [s for group in groups for s in grow(group, lambda line: [])]
        reused = sum(s.tokens for s in whole) - sum(s.tokens for s in segments)
        leaf_tokens = sum(t.tokens for t in unique)
        recipes = (group[0].recipe for group in groups)
        sizes = {r.hash: self.size(r.shape) for r in recipes}
        return Part(name, sizes, segments, leaf_tokens, workers, reused)

    def ladder_targets(self) -> list[Target]:
        steps, schedule = ladder_steps(self.config, self.names), self.config.training.schedule
        return [Target.leaf(self.recipe(s.shape, s.seed), s.leaf, schedule) for s in steps]

    def ladder(self) -> Part:
        targets = self.ladder_targets()
        return self._part(f"ladder: {len(targets)} leaves", targets, self._pool)

    def _splits(self, shape: ModelShape, budget: int, fractions: Iterable[float]) -> list[Target]:
        made, batch = self.recipe(shape), self.config.training.batch_tokens
        budget = whole_budget(budget, len(self.names), batch)
        splits = [Split.at(f, budget, self.weights, batch) for f in fractions]
        schedule = self.config.training.schedule
        return [Target.leaf(made, s.leaf(d), schedule) for s in splits for d in self.names]

    def search(self, plan: Plan | None) -> Part:
        settings = self.config.search
        shape = self.config.model if settings.at == "target" else self.config.ladder.shapes[-1]
        middle, most = (plan.split_fraction.value if plan else 0.25), settings.max_rounds * settings.trials_per_round
        fractions = [min(1.0, max(0.0, middle + 0.05 * (i - most // 2))) for i in range(most)]
        budget = settings.budget or self.config.budget
        return self._part(f"search: at most {most} trials", self._splits(shape, budget, fractions), self._pool)

    def production(self, fraction: float) -> Part:
        targets = self._splits(self.config.model, self.config.budget, [fraction])
        workers = self.config.resources.base_workers
        return self._part(f"base and specialists at s = {fraction:.3g}", targets, workers)

    def baselines(self) -> Part:
        fractions = self.config.evaluate.baselines
        targets = self._splits(self.config.model, self.config.budget, fractions)
        told = ", ".join(f"{f:g}" for f in fractions) or "none"
        return self._part(f"baselines at s = {told}", targets, self.config.resources.base_workers)


def _facts(config: Config, tree: _Tree, gpu: bool, standing: Standing) -> Table:
    table = Table(title=f"{config.name}: dry run", show_header=False, title_justify="left")
    counted, training = tree.size(config.model), config.training
    memory = _memories(config, tree)
    measured = f"measured: {standing.precision}" if standing.precision else "measured at the start"
    rows = {
        "target model": f"{config.model.label}, {human(counted.params)} params ({human(counted.total)} in all)",
        "budget D_T": f"{config.budget:,} tokens over {config.corpus.domains} domains",
        "global batch": f"{training.global_batch_size} sequences x {training.sequence_length} tokens = "
        f"{training.batch_tokens:,} tokens, micro-batch {training.micro_batch_size}",
        "precision": training.precision + (f" ({measured})" if training.precision == "auto" else ""),
        "base": f"{config.resources.base_workers} workers, ZeRO {training.stage(config.resources.base_workers)}",
        "specialists": f"{config.corpus.domains} actors x {config.resources.specialist_workers} workers",
        "memory a worker": f"{max(memory.values()) / 2**30:.2f} GiB at most for states and activations, estimated: "
        + ", ".join(f"{name} {held / 2**30:.2f}" for name, held in memory.items()),
        "device": "GPU" if gpu else config.resources.accelerator,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _table(config: Config, tree: _Tree, parts: list[Part], gpu: bool) -> Table:
    table = Table(title="The tree", title_justify="left")
    table.add_column("what")
    for name in ("segments", "tokens to train", "from scratch", "reused", "FLOPs", "disk", "workers", "time"):
        table.add_column(name, justify="right")
    for part in parts:
        table.add_row(
            part.name,
            f"{len(part.segments)}",
            human(part.tokens),
            human(part.leaf_tokens),
            human(part.reused),
            f"{_flops(config, part):.2g}",
            f"{_disk(part) / 1e9:.3g} GB",
            f"{part.workers}",
            duration(_seconds(config, part, gpu)),
        )
    return table


def _flops(config: Config, part: Part) -> float:
    counted, length = ((part.sizes[s.recipe.hash], s.tokens) for s in part.segments), config.training.sequence_length
    return sum(flops(size.params, tokens, size.layers, size.hidden, length) for size, tokens in counted)


def _disk(part: Part) -> float:
    """Bytes of snapshots: fp32 weights, and two moments while children may start from them."""
    return sum(part.sizes[s.recipe.hash].total * (4.0 if s.final else 12.0) for s in part.segments)


def _seconds(config: Config, part: Part, gpu: bool) -> float:
    if config.resources.tokens_per_second is not None:
        return part.tokens / config.resources.tokens_per_second / part.workers
    return _flops(config, part) / (_GPU_FLOPS if gpu else _CPU_FLOPS) / part.workers


def _memories(config: Config, tree: _Tree) -> dict[str, float]:
    """Bytes a worker holds in every kind of group; search and baselines at the target's size use the same groups."""
    target, resources = tree.size(config.model), config.resources
    return {
        "base": _memory(target, config, resources.base_workers),
        "specialists": _memory(target, config, resources.specialist_workers),
        "ladder": max(_memory(tree.size(s), config, 1) for s in config.ladder.shapes),
    }


def _memory(counted: Size, config: Config, workers: int) -> float:
    """Bytes a worker holds: fp32 weights, gradients and Adam moments by ZeRO stage, and activations.

    ZeRO shares by Rajbhandari et al. 2020: stage 1 shards the moments (and DeepSpeed's own fp32 copy), 2 the
    gradients, 3 the weights. Activations: about 34 h bytes a token and layer in 16 bits (Korthikanti et al. 2022),
    and logits with their gradient in fp32: all of a micro-batch under ZeRO 3, else the part that is held at a time.
    """
    stage = config.training.stage(workers)
    n, shard = counted.total, 1.0 / workers
    weights = 4 * n * (shard if stage >= 3 else 1)
    gradients = 4 * n * (shard if stage >= 2 else 1)
    moments = 12 * n * shard if stage >= 1 else 8 * n
    tokens = config.training.micro_batch_size * config.training.sequence_length
    logits = tokens * config.corpus.tokenizer.vocabulary
    if stage < 3:
        logits = min(logits, logits_at_once("cuda" if config.resources.accelerator == "gpu" else "cpu"))
    return weights + gradients + moments + 34.0 * tokens * counted.hidden * counted.layers + 8.0 * logits
