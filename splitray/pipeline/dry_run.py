"""`--dry-run`: the tree that a run would grow, and what it would cost. Needs no data and no cluster."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from splitray.config import Config
from splitray.errors import UserError
from splitray.executor.durations import Durations
from splitray.executor.prices import worker_price
from splitray.pipeline.dry_run_result import DryRun
from splitray.pipeline.dry_run_table import plain, table_of, timetable_words, together
from splitray.pipeline.exams import asked_exams
from splitray.pipeline.programme import CorpusFacts, Programme, labels
from splitray.pipeline.rates import measured_rates
from splitray.pipeline.room import room_words
from splitray.pipeline.scheduling import scheduler_of, speeds_of
from splitray.pipeline.standing import Standing
from splitray.pipeline.tree import Tree
from splitray.storage.store import Store
from splitray.training.settings import ModelShape
from splitray.units import human

_FRACTIONS = (0.1, 0.25, 0.5)  # shown before a plan exists


def foresee(config: Config, store: str, standing: Standing) -> DryRun:
    """The tree and its cost; without a plan a few split fractions are shown."""
    corpus, plan = standing.corpus or CorpusFacts.unbuilt(config), standing.plan
    held = Store(store) if standing.corpus else None
    programme = Programme(config, corpus, _precision(config, standing), standing.rates)
    gpu = config.resources.accelerator == "gpu"
    measured = measured_rates(programme, held, gpu) if held is not None else {}
    speeds = speeds_of(programme, gpu, measured)
    scheduler = scheduler_of(programme, speeds)
    price = worker_price(config.resources, "GPU" if gpu else "CPU", config.training.threads)
    shown: list[RenderableType] = [] if standing.note is None else [Text(standing.note)]
    shown.append(_facts(programme, speeds, standing))
    tree = Tree(programme, held)
    before = [tree.ladder()]
    if config.search.at != "off":
        before.append(tree.search(plan, standing.searched))
    if plan is not None:
        split = programme.final().split(plan.split_fraction.value)
        production = [tree.production(split)]
        after = [tree.evaluation(split)]
    else:
        production = [tree.alternative(programme.final().split(f)) for f in _FRACTIONS]
        after = [tree.evaluation(None)]
    parts = {part.name: plain(part, scheduler, price) for part in (*before, *production, *after)}
    shown.append(table_of(list(parts.values()), gpu))
    shown.append("Reused is what the store holds by then: from earlier runs, and from the lines above.")
    shown.append(timetable_words(scheduler))
    if plan is None:
        shown.append("No plan yet: base and specialists are shown for three split fractions.")
    if config.weights == "tokens" and corpus.train_tokens is None:
        shown.append("Domains have equal weights here: with weights = tokens theirs are known after the corpus.")
    dearest = max((parts[p.name] for p in production), key=lambda p: p.worker_hours)
    shown.append(together([parts[p.name] for p in before] + [dearest] + [parts[p.name] for p in after], gpu, price))
    return DryRun(tuple(parts.values()), _refusal(programme, standing), tuple(shown))


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


def _facts(programme: Programme, speeds: Durations, standing: Standing) -> Table:
    config = programme.config
    table = Table(title=f"{config.name}: dry run", show_header=False, title_justify="left")
    counted, training, resources = programme.size(config.model), config.training, config.resources
    memory = _memories(programme, speeds)
    shapes = dict.fromkeys(config.ladder.shapes)
    ladder = [f"{n} {human(programme.size(s).params)}" for n, s in zip(labels([*shapes]), shapes, strict=True)]
    choice = standing.precision
    chosen = f"{choice.precision}: {choice.why}" if choice else "measured at the start"
    gpu = speeds.gpu
    rows = {
        "target model": f"{config.model.label}, {human(counted.params)} params ({human(counted.total)} in all)",
        "ladder": ", ".join(ladder),
        "budget D_T": _budget(programme),
        "global batch": f"{training.global_batch_size} sequences x {training.sequence_length} tokens = "
        f"{training.batch_tokens:,} tokens, micro-batch {training.micro_batch_size}",
        **({"replay": f"{training.replay_share:.3g} of D' is mixture text"} if training.replay_share else {}),
        **_text(programme, standing),
        "precision": training.precision + (f" ({chosen})" if training.precision == "auto" else ""),
        "base": f"{_workers(resources.base_workers, resources.base_workers_min)}, "
        f"ZeRO {training.stage(resources.base_workers)}",
        "specialists": f"{config.corpus.domains} actors x "
        f"{_workers(resources.specialist_workers, resources.specialist_workers_min)}",
        "memory a worker": f"{max(memory.values()) / 2**30:.2f} GiB at most for states and activations, estimated: "
        + ", ".join(f"{name} {held / 2**30:.2f}" for name, held in memory.items()),
        "device": f"GPU, {speeds.accelerator.name}" if gpu else resources.accelerator,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _text(programme: Programme, standing: Standing) -> dict[str, str]:
    """The line on what a node caches, once there is a corpus to cache."""
    said = room_words(programme, standing.built) if standing.built is not None else None
    return {} if said is None else {"a node's cache": said}


def _workers(most: int, fewest: int | None) -> str:
    return f"{most} workers" + (f" (fewer while nodes are missing, at least {fewest})" if fewest is not None else "")


def _budget(programme: Programme) -> str:
    config, whole = programme.config, programme.budget
    said = f"{whole:,} tokens over {config.corpus.domains} domains"
    if whole == config.budget:
        return said
    return f"{said}: the {config.budget:,} given, rounded to whole batches of every domain"


def _memories(programme: Programme, speeds: Durations) -> dict[str, float]:
    """Bytes a worker holds in every kind of group; search and baselines at the target's size use the same groups.

    A group that may have fewer workers is counted with the fewest, which hold the most each.
    """
    config, size = programme.config, programme.size

    def held(shape: ModelShape, workers: int) -> float:
        return speeds.held(size(shape), workers)

    base, specialists = config.resources.smallest_groups.values()
    return {
        "base": held(config.model, base),
        "specialists": held(config.model, specialists),
        "ladder": max(held(s, 1) for s in config.ladder.shapes),
    }
