"""`--dry-run`: the tree that a run would grow, and what it would cost. Needs no data and no cluster."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from splitray.config import Config, Runnable
from splitray.errors import UserError
from splitray.executor.prices import worker_price
from splitray.pipeline.dry_run_result import DryRun, DryRunPart
from splitray.pipeline.exams import asked_exams
from splitray.pipeline.programme import CorpusFacts, Programme, labels
from splitray.pipeline.standing import Standing
from splitray.pipeline.tree import Part, Tree
from splitray.storage.store import Store
from splitray.training.family import Size
from splitray.training.head import logits_at_once
from splitray.units import duration, human

_FRACTIONS = (0.1, 0.25, 0.5)  # shown before a plan exists
_CPU_FLOPS, _GPU_FLOPS = 2e10, 1.6e14  # assumed of one worker: one core in fp32; 40 % of an A100's bf16 peak


def foresee(config: Config, store: str, standing: Standing) -> DryRun:
    """The tree and its cost; without a plan a few split fractions are shown."""
    corpus, plan = standing.corpus or CorpusFacts.unbuilt(config), standing.plan
    held = Store(store) if standing.corpus else None
    programme = Programme(config, corpus, _precision(config, standing), standing.rates)
    gpu = config.resources.accelerator == "gpu"
    shown: list[RenderableType] = [] if standing.note is None else [Text(standing.note)]
    shown.append(_facts(programme, gpu, standing))
    tree = Tree(programme, held)
    parts = [tree.ladder()]
    if config.search.at != "off":
        parts.append(tree.search(plan, standing.searched))
    if plan is not None:
        split = programme.final().split(plan.split_fraction.value)
        parts += [tree.production(split), tree.evaluation(split)]
    else:
        parts += [tree.alternative(programme.final().split(f)) for f in _FRACTIONS] + [tree.evaluation(None)]
    shown.append(table(config, parts, gpu))
    shown.append("Reused is what the store holds by then: from earlier runs, and from the lines above.")
    if plan is None:
        shown.append("No plan yet: base and specialists are shown for three split fractions.")
    if config.weights == "tokens" and corpus.train_tokens is None:
        shown.append("Domains have equal weights here: with weights = tokens theirs are known after the corpus.")
    shown += costs(config, parts, gpu)
    refusal = _refusal(programme, standing)
    return DryRun(tuple(plain(config, p, gpu) for p in parts), refusal, tuple(shown))


def costs(config: Runnable, parts: list[Part], gpu: bool) -> list[str]:
    """What the times rest on, and what they cost where a price is known."""
    said = []
    if config.resources.tokens_per_second is None:
        assumed = _GPU_FLOPS if gpu else _CPU_FLOPS
        said.append(f"Time assumes {assumed:.2g} FLOP/s a worker; set resources.tokens_per_second to a measured rate.")
    price = worker_price(config.resources, "GPU" if gpu else "CPU", config.training.threads)
    if price is not None:
        hours = sum(_seconds(config, p, gpu) * p.workers for p in parts) / 3600
        cost = f"{hours * price.per_hour:.2f} {price.currency} at {price.per_hour:.4g} an hour ({price.source})"
        said.append(f"All lines together: {hours:.1f} worker hours, {cost}.")
    return said


def _refusal(programme: Programme, standing: Standing) -> str | None:
    """Why a run would end before it trains, as far as that is known here."""
    try:
        asked_exams(programme.config)
        if standing.corpus or programme.config.corpus.tokenizer.source == "bpe":
            programme.check_ladder()
    except UserError as error:
        return str(error)
    return None


def _precision(config: Config, standing: Standing) -> str:
    """The precision that is counted with; where it is measured at the start, the store holds nothing in either."""
    if standing.precision is not None:
        return standing.precision.precision
    return "bf16" if config.training.precision == "auto" else config.training.precision


def plain(config: Runnable, part: Part, gpu: bool) -> DryRunPart:
    """A line of the table as numbers."""
    return DryRunPart(
        part.name,
        len(part.segments),
        part.tokens,
        part.leaf_tokens,
        part.reused,
        part.flops,
        _disk(part),
        part.workers,
        _seconds(config, part, gpu),
    )


def _facts(programme: Programme, gpu: bool, standing: Standing) -> Table:
    config = programme.config
    table = Table(title=f"{config.name}: dry run", show_header=False, title_justify="left")
    counted, training = programme.size(config.model), config.training
    memory = _memories(programme)
    shapes = dict.fromkeys(config.ladder.shapes)
    ladder = [f"{n} {human(programme.size(s).params)}" for n, s in zip(labels([*shapes]), shapes, strict=True)]
    choice = standing.precision
    chosen = f"{choice.precision}: {choice.why}" if choice else "measured at the start"
    rows = {
        "target model": f"{config.model.label}, {human(counted.params)} params ({human(counted.total)} in all)",
        "ladder": ", ".join(ladder),
        "budget D_T": _budget(programme),
        "global batch": f"{training.global_batch_size} sequences x {training.sequence_length} tokens = "
        f"{training.batch_tokens:,} tokens, micro-batch {training.micro_batch_size}",
        **({"replay": f"{training.replay_share:.3g} of D' is mixture text"} if training.replay_share else {}),
        "precision": training.precision + (f" ({chosen})" if training.precision == "auto" else ""),
        "base": f"{config.resources.base_workers} workers, ZeRO {training.stage(config.resources.base_workers)}",
        "specialists": f"{config.corpus.domains} actors x {config.resources.specialist_workers} workers",
        "memory a worker": f"{max(memory.values()) / 2**30:.2f} GiB at most for states and activations, estimated: "
        + ", ".join(f"{name} {held / 2**30:.2f}" for name, held in memory.items()),
        "device": "GPU" if gpu else config.resources.accelerator,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _budget(programme: Programme) -> str:
    config, whole = programme.config, programme.budget
    said = f"{whole:,} tokens over {config.corpus.domains} domains"
    if whole == config.budget:
        return said
    return f"{said}: the {config.budget:,} given, rounded to whole batches of every domain"


def table(config: Runnable, parts: list[Part], gpu: bool) -> Table:
    """The tree and its cost."""
    made = Table(title="The tree", title_justify="left")
    made.add_column("what")
    for name in ("segments", "tokens to train", "from scratch", "reused", "FLOPs", "disk", "workers", "time"):
        made.add_column(name, justify="right")
    for part in parts:
        made.add_row(
            part.name,
            f"{len(part.segments)}",
            human(part.tokens),
            human(part.leaf_tokens),
            human(part.reused),
            f"{part.flops:.2g}",
            f"{_disk(part) / 1e9:.3g} GB",
            f"{part.workers}",
            duration(_seconds(config, part, gpu)),
        )
    return made


def _disk(part: Part) -> float:
    """Bytes of snapshots: fp32 weights, and two moments while children may start from them."""
    return sum(part.sizes[s.recipe.hash].total * (4.0 if s.final else 12.0) for s in part.segments)


def _seconds(config: Runnable, part: Part, gpu: bool) -> float:
    if config.resources.tokens_per_second is not None:
        return part.tokens / config.resources.tokens_per_second / part.workers
    return part.flops / (_GPU_FLOPS if gpu else _CPU_FLOPS) / part.workers


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
