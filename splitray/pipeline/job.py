"""One run of the main job, as its stages see it: run folder, store, corpus, programme, executor, law and table."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from splitray import law as laws
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.executor.client import ExecutorClient
from splitray.executor.connect import accelerator_type, uses_gpu
from splitray.executor.precision import kind_of_machine, resolve_precision
from splitray.executor.prices import price_of
from splitray.executor.schedule import Scheduler
from splitray.executor.worker import RunContext
from splitray.pipeline import precision
from splitray.pipeline.ledger import Ledger
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.rates import measured_rates
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.scheduling import scheduler_of, speeds_of
from splitray.results.ledger import Price
from splitray.results.stages import CorpusResult, SearchResult
from splitray.storage.store import Store
from splitray.training.precision import PrecisionChoice
from splitray.training.split import Split


@dataclass
class Job:
    """What stages share. Everything is made when first asked for: a finished run starts no owner."""

    run: RunFolder
    store: Store
    look: Callable[[], None] = lambda: None  # has the ledger take over what workers have done by now

    @property
    def config(self) -> Config:
        return self.run.config

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

    @cached_property
    def use_gpu(self) -> bool:
        return uses_gpu(self.config.resources)

    @cached_property
    def context(self) -> RunContext:
        """What every host of this start shares; a namespace of its own keeps two starts apart."""
        namespace = f"splitray/{self.config.name}/{datetime.now(UTC):%H%M%S%f}"
        silence = self.config.resources.silence_seconds
        programme, name = self.programme, self.config.name
        return RunContext(
            self.store,
            self.corpus.key,
            programme.training,
            namespace,
            self.use_gpu,
            silence,
            start=self.run.start,
            run=name,
            flops_per_token=programme.flops_per_token,
            scheduler=self._scheduler,
            idle_seconds=self.config.resources.idle_seconds,
        )

    @property
    def _scheduler(self) -> Scheduler:
        """By the table of accelerators and what earlier segments have shown, as the dry run has it."""
        measured = measured_rates(self.programme, self.store, self.use_gpu)
        kind = accelerator_type() if self.use_gpu else None
        return scheduler_of(self.programme, speeds_of(self.programme, self.use_gpu, measured, kind))

    @cached_property
    def executor(self) -> ExecutorClient:
        return ExecutorClient(
            self.config.resources,
            self.context,
            self.config.evaluate.validation_tokens,
            self.run.event,
            self.ledger.see,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """What this start spends."""
        return Ledger(self.run.folder, self.run.start, lambda params, tokens: self.programme.flops(params, tokens))

    @property
    def device(self) -> str:
        """What workers train on, and what hours are counted of: "GPU" or "CPU"."""
        return "GPU" if self.use_gpu else "CPU"

    @property
    def price(self) -> Price | None:
        """What a device costs; None where nobody has set a price."""
        return price_of(self.config.resources, self.device, self.config.training.threads)

    @property
    def executes(self) -> bool:
        """Whether this start has asked for a coordinator."""
        return "executor" in self.__dict__

    def stop(self) -> None:
        """Have every host checkpoint what it trains."""
        if self.executes:
            self.executor.stop()
            self.ledger.flush()  # first: a look may take seconds where the coordinator is gone
            self.look()
            self.ledger.flush()

    @cached_property
    def programme(self) -> Programme:
        """What this run trains."""
        return Programme(self.config, CorpusFacts.of(self.corpus), self.precision)

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
