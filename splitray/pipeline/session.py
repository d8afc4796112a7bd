"""What every job shares, whatever it trains: run folder, store, executor, ledger and price."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Generic, TypeVar, cast

from splitray.config import Runnable
from splitray.executor.client import ExecutorClient
from splitray.executor.connect import uses_gpu
from splitray.executor.prices import price_of
from splitray.executor.schedule import Scheduler
from splitray.executor.worker import RunContext
from splitray.pipeline.ledger import Ledger
from splitray.pipeline.run_folder import RunFolder
from splitray.results.ledger import Price
from splitray.settings import Settings
from splitray.storage.store import Store
from splitray.training.settings import TrainingSettings

C = TypeVar("C", bound=Settings)


@dataclass
class Session(ABC, Generic[C]):
    """One start of a job. Everything is made when first asked for: a finished run starts no owner."""

    run: RunFolder[C]
    store: Store
    look: Callable[[], None] = lambda: None  # has the ledger take over what workers have done by now

    @property
    def config(self) -> C:
        return self.run.config

    @property
    def settings(self) -> Runnable:
        """The configuration, as far as every kind has it."""
        return cast(Runnable, self.run.config)

    @property
    @abstractmethod
    def training(self) -> TrainingSettings:
        """How segments are trained, the precision resolved."""

    @property
    @abstractmethod
    def corpora(self) -> Mapping[str, str]:
        """The keys of the run's corpora by content hash; the first is that of segments which name none of them."""

    @property
    @abstractmethod
    def validation_tokens(self) -> int:
        """Tokens of a domain that models are scored on."""

    @property
    @abstractmethod
    def flops_per_token(self) -> Mapping[int, float]:
        """FLOPs of training on a token, by N of the run's models."""

    @abstractmethod
    def flops(self, params: int, tokens: int) -> float | None:
        """FLOPs of training one of the run's models, known by its N, on some tokens; None where no model has that N."""

    @property
    def fewest(self) -> Mapping[str, int | None]:
        """The fewest workers that a group may go on with, by its kind; None: as many as it was planned for."""
        resources = self.settings.resources
        return {"base": resources.base_workers_min, "specialist": resources.specialist_workers_min}

    @property
    def scheduler(self) -> Scheduler | None:
        """Who trains what and in which order; None: who comes first, and one worker a segment."""
        return None

    @cached_property
    def use_gpu(self) -> bool:
        return uses_gpu(self.settings.resources)

    @cached_property
    def context(self) -> RunContext:
        """What every host of this start shares; a namespace of its own keeps two starts apart."""
        corpora, settings = dict(self.corpora), self.settings
        return RunContext(
            self.store,
            next(iter(corpora.values())),
            self.training,
            f"splitray/{settings.name}/{datetime.now(UTC):%H%M%S%f}",
            self.use_gpu,
            settings.resources.silence_seconds,
            start=self.run.start,
            run=settings.name,
            flops_per_token=self.flops_per_token,
            scheduler=self.scheduler,
            idle_seconds=settings.resources.idle_seconds,
            corpora=corpora if len(corpora) > 1 else {},
            fewest=self.fewest,
            resize_seconds=settings.resources.resize_seconds,
        )

    @cached_property
    def executor(self) -> ExecutorClient:
        return ExecutorClient(
            self.settings.resources, self.context, self.validation_tokens, self.run.event, self.ledger.see
        )

    @cached_property
    def ledger(self) -> Ledger:
        """What this start spends."""
        return Ledger(self.run.folder, self.run.start, self.flops)

    @property
    def device(self) -> str:
        """What workers train on, and what hours are counted of: "GPU" or "CPU"."""
        return "GPU" if self.use_gpu else "CPU"

    @property
    def price(self) -> Price | None:
        """What a device costs; None where nobody has set a price."""
        return price_of(self.settings.resources, self.device, self.settings.training.threads)

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
