"""`--dry-run`: the tree that a run would grow, and what it would cost. Needs no data and no cluster."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from splitray.config import Config
from splitray.errors import UserError
from splitray.executor.request import Request
from splitray.law.planning.plan import Plan
from splitray.pipeline.dry_run_result import DryRun, DryRunPart
from splitray.pipeline.programme import CorpusFacts, Programme, labels
from splitray.pipeline.standing import Standing
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.family import Size
from splitray.training.head import logits_at_once
from splitray.training.split import Split
from splitray.training.tree import Segment, by_recipe, flops, grow
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


def foresee(config: Config, store: str, standing: Standing) -> DryRun:
    """The tree and its cost; without a plan a few split fractions are shown."""
    corpus, plan = standing.corpus or CorpusFacts.unbuilt(config), standing.plan
    held = Store(store) if standing.corpus else None
    programme = Programme(config, corpus, _precision(config, corpus, held, standing))
    gpu = config.resources.accelerator == "gpu"
    shown: list[RenderableType] = [] if standing.note is None else [Text(standing.note)]
    shown.append(_facts(programme, gpu, standing))
    tree = _Tree(programme, held)
    parts = [tree.ladder()]
    if config.search.at != "off":
        parts.append(tree.search(plan, standing.searched))
    if plan is not None:
        split = programme.final().split(plan.split_fraction.value)
        parts += [tree.production(split), tree.evaluation(split)]
    else:
        parts += [tree.alternative(programme.final().split(f)) for f in _FRACTIONS] + [tree.evaluation(None)]
    shown.append(_table(config, parts, gpu))
    shown.append("Reused is what the store holds by then: from earlier runs, and from the lines above.")
    if plan is None:
        shown.append("No plan yet: base and specialists are shown for three split fractions.")
    if config.weights == "tokens" and corpus.train_tokens is None:
        shown.append("Domains have equal weights here: with weights = tokens theirs are known after the corpus.")
    if config.resources.tokens_per_second is None:
        assumed = _GPU_FLOPS if gpu else _CPU_FLOPS
        shown.append(f"Time assumes {assumed:.2g} FLOP/s a worker; set resources.tokens_per_second to a measured rate.")
    per_hour = config.resources.price_per_hour
    if per_hour is not None:
        hours = sum(_seconds(config, p, gpu) * p.workers for p in parts) / 3600
        shown.append(f"All lines together: {hours:.1f} worker hours, {hours * per_hour:.2f} at {per_hour:g} an hour.")
    refusal = None
    if standing.corpus or config.corpus.tokenizer.source == "bpe":
        try:
            programme.check_ladder()
        except UserError as error:
            refusal = str(error)
    return DryRun(tuple(_plain(config, p, gpu) for p in parts), refusal, tuple(shown))


def _precision(config: Config, corpus: CorpusFacts, store: Store | None, standing: Standing) -> str:
    """The configured or measured precision; where `auto` is not measured yet, the one that the store holds more of."""
    if config.training.precision != "auto":
        return config.training.precision
    if standing.precision is not None or store is None:
        return standing.precision or "bf16"
    return max(("bf16", "fp32"), key=lambda p: _Tree(Programme(config, corpus, p), store).ladder().reused)


def _plain(config: Config, part: Part, gpu: bool) -> DryRunPart:
    return DryRunPart(
        part.name,
        len(part.segments),
        part.tokens,
        part.leaf_tokens,
        part.reused,
        _flops(config, part),
        _disk(part),
        part.workers,
        _seconds(config, part, gpu),
    )


class _Tree:
    """The tree as the stages grow it, one after the other, before anything runs.

    Args:
        store: None where no key is known: then only what the lines above train is reused.
    """

    def __init__(self, programme: Programme, store: Store | None) -> None:
        self.programme, self._config = programme, programme.config
        self._pool = int(self._config.resources.capacity or 1)
        self._stands = defaultdict[str, set[int]](set)  # ends by line
        self._add(store.keys(SegmentKey.prefix()) if store else [])

    def _add(self, names: Iterable[str]) -> None:
        for name in names:
            if (key := SegmentKey.match(name)) is not None:
                self._stands[key.line].add(key.tokens)

    def _part(self, name: str, requests: Iterable[Request], workers: int, kept: bool = True) -> Part:
        """A line of the table; what is `kept` counts as trained for the lines below."""
        unique = {r.target.key: r.target for r in requests}.values()  # one unsplit model may serve every domain
        groups = by_recipe(unique, lambda t: t.recipe)
        segments = [s for group in groups for s in grow(group, lambda line: self._stands[line])]
        whole = [s for group in groups for s in grow(group, lambda line: [])]
        reused = sum(s.tokens for s in whole) - sum(s.tokens for s in segments)
        sizes = {g[0].recipe.hash: self.programme.size(g[0].recipe.shape) for g in groups}
        if kept:
            self._add(s.key for s in segments)
        leaf_tokens = sum(t.tokens for t in unique if t.final)
        return Part(name, sizes, segments, leaf_tokens, workers, reused)

    def ladder(self) -> Part:
        requests = [request for _, request in self.programme.ladder()]
        return self._part(f"ladder: {len(requests)} leaves", requests, self._pool)

    def search(self, plan: Plan | None, searched: Sequence[Split] | None) -> Part:
        """The trials that a finished search ran, else as many as there may be, around the plan."""
        family, settings = self.programme.search(), self._config.search
        if searched is None:
            middle, most = (
                (plan.split_fraction.value if plan else 0.25),
                settings.max_rounds * settings.trials_per_round,
            )
            fractions = [min(1.0, max(0.0, middle + 0.05 * (i - most // 2))) for i in range(most)]
            name, splits = f"search: at most {most} trials", [family.split(f) for f in fractions]
        else:
            name, splits = f"search: {len(searched)} trials, done", list(searched)
        return self._part(name, (r for s in splits for r in family.requests(s)), self._pool)

    def production(self, split: Split, kept: bool = True) -> Part:
        workers, base = self._config.resources.base_workers, self.programme.base(split)
        requests = [*([base] if base else []), *self.programme.specialists(split)]
        return self._part(f"base and specialists at s = {split.fraction:.3g}", requests, workers, kept)

    def alternative(self, split: Split) -> Part:
        """`production` at one of several fractions, of which the run will choose another."""
        return self.production(split, kept=False)

    def evaluation(self, split: Split | None) -> Part:
        """The baselines, and the unsplit model of the plan's D where that is known: they are asked for at once."""
        reference = self.programme.reference(split) if split is not None else None
        shown = ", ".join(f"{f:g}" for f in self._config.evaluate.baselines) or "none"
        name = f"baselines at s = {shown}" + (", and the base finished" if reference else "")
        requests = [r for baseline in self.programme.baselines().values() for r in self.programme.compared(baseline)]
        return self._part(name, requests + ([reference] if reference else []), self._config.resources.base_workers)


def _facts(programme: Programme, gpu: bool, standing: Standing) -> Table:
    config = programme.config
    table = Table(title=f"{config.name}: dry run", show_header=False, title_justify="left")
    counted, training = programme.size(config.model), config.training
    memory = _memories(programme)
    shapes = dict.fromkeys(config.ladder.shapes)
    ladder = [f"{n} {human(programme.size(s).params)}" for n, s in zip(labels([*shapes]), shapes, strict=True)]
    measured = f"measured: {standing.precision}" if standing.precision else "measured at the start"
    if standing.precision is None and standing.corpus:
        measured += f"; counted here: {programme.precision}"
    rows = {
        "target model": f"{config.model.label}, {human(counted.params)} params ({human(counted.total)} in all)",
        "ladder": ", ".join(ladder),
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


def _table(config: Config, parts: list[Part], gpu: bool) -> Table:
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


def _memories(programme: Programme) -> dict[str, float]:
    """Bytes a worker holds in every kind of group; search and baselines at the target's size use the same groups."""
    config, size = programme.config, programme.size
    target, resources = size(config.model), config.resources
    return {
        "base": _memory(target, config, resources.base_workers),
        "specialists": _memory(target, config, resources.specialist_workers),
        "ladder": max(_memory(size(s), config, 1) for s in config.ladder.shapes),
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
