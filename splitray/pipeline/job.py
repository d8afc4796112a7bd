"""One run of the main job, as its stages see it: run folder, store, corpus, programme, executor, law and table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from splitray import law as laws
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.executor.connect import accelerator_type
from splitray.executor.node_caches import node_caches
from splitray.executor.precision import kind_of_machine, resolve_precision
from splitray.executor.schedule import Scheduler
from splitray.pipeline import precision
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.rates import measured_rates
from splitray.pipeline.room import check_room
from splitray.pipeline.scheduling import scheduler_of, speeds_of
from splitray.pipeline.session import Session
from splitray.results.stages import CorpusResult, LadderResult, SearchResult
from splitray.training.precision import PrecisionChoice
from splitray.training.settings import TrainingSettings
from splitray.training.split import Split


@dataclass
class Job(Session[Config]):
    """What stages share. Everything is made when first asked for: a finished run starts no owner."""

    _has_room: bool = field(default=False, init=False)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that stage corpus left in the store."""
        return Corpus.open(self.store, self.run.result(CorpusResult).key)

    @cached_property
    def precision(self) -> str:
        """fp32 or bf16: as configured, else as the run began, as the store has it, or as measured now."""
        config, automatic = self.config, self.config.training.precision == "auto"
        facts, choice = CorpusFacts.of(self.corpus), PrecisionChoice(config.training.precision, "configured")
        if automatic:
            choice = precision.of_folder(self.run.folder) or precision.keep(self.run.folder, self._automatic(facts))
        precision.say(choice, precision.held_tokens(config, facts, self.store), automatic)
        return choice.precision

    def _automatic(self, facts: CorpusFacts) -> PrecisionChoice:
        """What `auto` means for a run that begins."""
        config = self.config
        machine = None if self.use_gpu else kind_of_machine(config.training)
        known = precision.of_store(config, facts, self.store, machine) if machine is not None else None
        return known or resolve_precision(self.store, config.model, config.training, facts.vocab, machine)

    def check_precision(self) -> None:
        """Refuse to train where the run folder says another precision than this start has read."""
        if self.config.training.precision == "auto":
            precision.check_kept(self.run.folder, self.precision)

    def check_room(self) -> None:
        """Refuse to train where the cache of a node has no room for the text of a segment; asked once a start."""
        if not self.store.root.is_local and not self._has_room:
            check_room(self.programme, self.corpus, node_caches(self.training.worker_cpus, self.use_gpu))
            self._has_room = True

    @property
    def training(self) -> TrainingSettings:
        return self.programme.training

    @property
    def corpora(self) -> Mapping[str, str]:
        return {self.corpus.content_hash: self.corpus.key}

    @property
    def validation_tokens(self) -> int:
        return self.config.evaluate.validation_tokens

    @property
    def flops_per_token(self) -> Mapping[int, float]:
        return self.programme.flops_per_token

    def flops(self, params: int, tokens: int) -> float | None:
        return self.programme.flops(params, tokens)

    @property
    def scheduler(self) -> Scheduler:
        """By the table of accelerators and what earlier segments have shown, as the dry run has it."""
        measured = measured_rates(self.programme, self.store, self.use_gpu)
        kind = accelerator_type() if self.use_gpu else None
        return scheduler_of(self.programme, speeds_of(self.programme, self.use_gpu, measured, kind))

    @cached_property
    def programme(self) -> Programme:
        """What this run trains."""
        known = self.run.done("ladder")
        rates = known.result.rates if known is not None and isinstance(known.result, LadderResult) else None
        return Programme(self.config, CorpusFacts.of(self.corpus), self.precision, rates)

    @property
    def law(self) -> laws.Law:
        """The law fitted on the ladder alone."""
        return self.run.kept("law.json", laws.Law.load)

    @property
    def table(self) -> pa.Table:
        """The ladder's runs."""
        return self.run.kept("runs.parquet", pq.read_table)

    @property
    def split(self) -> Split:
        """The split that the run settled on, in whole batches."""
        return self.programme.final().split(self.run.result(SearchResult).final_plan.split_fraction.value)
