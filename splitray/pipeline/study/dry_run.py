"""`splitray study --dry-run`: the tree that a study would grow, and what it would cost. Needs no data, no cluster."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from splitray.errors import CorruptError, SplitrayError, UserError
from splitray.executor.durations import Durations
from splitray.executor.prices import worker_price
from splitray.executor.schedule import Scheduler
from splitray.pipeline.dry_run_result import DryRun
from splitray.pipeline.dry_run_table import plain, table_of, timetable_words, together
from splitray.pipeline.exams import read_exams
from splitray.pipeline.programme import CorpusFacts
from splitray.pipeline.scheduling import accelerator, given_rates, scheduler
from splitray.pipeline.study.programme import Base, Point, StudyProgramme, unbuilt
from splitray.pipeline.study.settings import StudyConfig
from splitray.pipeline.tree import Growth
from splitray.results.stages import StageRecord
from splitray.results.study_stages import CorporaResult, SweepResult
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.units import human


def foresee_study(config: StudyConfig, run_dir: str, store: str) -> DryRun:
    """The tree of a study and its cost, less what the run folder and the store hold."""
    facts, rates = _standing(run_dir, Store(store))
    held = Store(store) if facts else None
    precision = "bf16" if config.training.precision == "auto" else config.training.precision
    programme = StudyProgramme(config, facts or unbuilt(config), precision, rates)
    gpu = config.resources.accelerator == "gpu"
    growth, workers = Growth(programme.size_of, held), int(config.resources.capacity or 1)
    parts = []
    if len(config.sweep.multipliers) > 1:
        asked = [request for base in programme.bases for _, request in programme.sweep(base)]
        parts.append(growth.part(f"sweep: {len(asked)} models", asked, workers))
    for name, points in (
        ("before they are continued", [p for base in programme.bases for p in programme.starts(base)]),
        ("lines", programme.shown()),
        ("held out", programme.hidden()),
    ):
        if points:
            models = len({point.key for point in points})
            parts.append(growth.part(f"{name}: {models} models", [p.request for p in points], workers))
    scheduler, price = (
        _scheduler(programme, gpu),
        worker_price(config.resources, "GPU" if gpu else "CPU", config.training.threads),
    )
    lines = [plain(part, scheduler, price) for part in parts]
    shown: list[RenderableType] = [_facts(programme), table_of(lines, gpu)]
    if not facts:
        shown.append(Text("The corpus is not built yet: vocabularies are those configured, and nothing is reused."))
    shown.append(Text(_measured(programme)))
    shown += [timetable_words(scheduler), together(lines, gpu, price)]
    return DryRun(tuple(lines), _refusal(config), tuple(shown))


def _scheduler(programme: StudyProgramme, gpu: bool) -> Scheduler:
    """A study's segments have a worker each, and come in no order of ours."""
    resources, training = programme.config.resources, programme.config.training
    bases = {base.shape: programme.size(base) for base in programme.bases}
    shapes, sizes = list(bases), list(bases.values())
    rates, vocab = given_rates(resources, shapes, sizes), max(facts.vocab for facts in programme.corpora.values())
    speeds = Durations(accelerator(resources, gpu), training, {s.params: s for s in sizes}, vocab, gpu, rates)
    return replace(scheduler(resources, training, speeds, 0), widen=False)


def _standing(run_dir: str, store: Store) -> tuple[dict[str, CorpusFacts], dict[str, float]]:
    """What earlier starts left: the corpora by tokenizer, and the learning rates; nothing where they cannot be read."""
    from splitray.corpus import Corpus

    facts, rates = dict[str, CorpusFacts](), dict[str, float]()
    try:
        run = Folder(run_dir)
        for stage in ("corpora", "sweep"):
            name = f"stages/{stage}.json"
            if not run.exists(name):
                continue
            result = StageRecord.parse(run.read_checksummed(name), f"{run.uri}/{name}").result
            if isinstance(result, CorporaResult):
                facts = {c.tokenizer: CorpusFacts.of(Corpus.open(store, c.key)) for c in result.corpora}
            elif isinstance(result, SweepResult):
                rates = dict(result.chosen)
    except (CorruptError, SplitrayError):
        return {}, {}
    return facts, rates


def _refusal(config: StudyConfig) -> str | None:
    try:
        read_exams(config.measure.exams, "measure.exams")
    except UserError as error:
        return str(error)
    return None


def _facts(programme: StudyProgramme) -> Table:
    config = programme.config
    rows = Table(title=f"{config.name}: dry run of the study", show_header=False, title_justify="left")
    for base in programme.bases:
        rows.add_row(base.name, _base(programme, base))
    training = config.training
    rows.add_row(
        "global batch",
        f"{training.global_batch_size} sequences x {training.sequence_length} = {training.batch_tokens:,} tokens",
    )
    return rows


def _base(programme: StudyProgramme, base: Base) -> str:
    before = f", {human(base.pretrain_tokens)} tokens of general text first" if base.pretrain_tokens else ", given"
    warm = "no new warm-up" if base.pretrain_tokens else "warmed up anew"
    return (
        f"{human(programme.size(base).params)} params{before}; arms {', '.join(base.arms)} x {base.seeds} seeds at "
        f"{', '.join(human(tokens) for tokens in base.tokens)} tokens, {warm}{'; held out' if base.held_out else ''}"
    )


def _measured(programme: StudyProgramme) -> str:
    points: Sequence[Point] = [*programme.shown(), *programme.begun(), *programme.hidden()]
    models, exams = len({point.key for point in points}), len(programme.config.measure.exams)
    return f"{models} finished models are measured on validation text and on {exams} exams, which is beside this table."
