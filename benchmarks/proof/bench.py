"""The bench: the corpus, the recipes, and a door to the coordinator that writes results down as they come."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ray

from benchmarks.proof.programme import Cell, Programme, Variant
from benchmarks.proof.table import Table
from splitray.corpus import Corpus, build_corpus
from splitray.errors import SplitrayError, StorageError
from splitray.evaluate.compare import Scores
from splitray.evaluate.loss import validation_key
from splitray.evaluate.measure import loss_key
from splitray.executor.client import ExecutorClient, told_by
from splitray.executor.connect import connect
from splitray.executor.request import Request
from splitray.executor.worker import RunContext
from splitray.ladder.grid import cost, row
from splitray.storage.store import Store
from splitray.training.model import build as build_model
from splitray.training.recipe import Recipe, recipe
from splitray.training.settings import TrainingSettings
from splitray.training.state import load, load_weights
from splitray.training.tree import Target
from splitray.units import human


class OutOfTime(SplitrayError):
    """The minutes given are over; the same command continues."""


def ask(
    trainer: ExecutorClient,
    requests: Sequence[Request],
    keep: Callable[[list[tuple[int, dict[str, Any]]]], None],
    deadline: float,
    say: Callable[[str], None],
) -> None:
    """Have requests trained; `keep` hears of those that have ended, (place, result), as they end.

    Raises OutOfTime past the deadline, after the hosts have left their checkpoints.
    """
    if time.monotonic() > deadline:
        raise OutOfTime("no time is left to begin")
    trainer.begin_stage()
    # asked for together first, so that shared prefixes are cut once; then one by one, to hear of each as it ends
    together = trainer.actor.leaves.remote(list(requests))
    waiting = {trainer.actor.leaves.remote([request]): place for place, request in enumerate(requests)}
    say(f"   {len(requests)} leaves to train")
    said = time.monotonic()
    try:
        while waiting:
            ray.wait(list(waiting), timeout=5)
            ended, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            keep([(waiting.pop(ref), ray.get(ref)[0]) for ref in ended])
            if time.monotonic() > deadline and waiting:
                trainer.stop()
                for ref in (together, *waiting):  # each says that it was stopped; unheard, Ray would print them all
                    with contextlib.suppress(ray.exceptions.RayError):
                        ray.get(ref, timeout=1)
                raise OutOfTime(f"{len(waiting)} of {len(requests)} leaves are left")
            if time.monotonic() - said > 60:
                said = time.monotonic()
                done, progress = len(requests) - len(waiting), trainer.progress()
                trained = progress["trained"] + sum(r["call_tokens"] for r in progress["running"].values())
                say(f"   {done}/{len(requests)} leaves, {human(trained)}/{human(progress['tokens'])} tokens")
        ray.get(together)
    except ray.exceptions.RayTaskError as error:
        raise told_by(error) from error


class Bench:
    """Trains cells and keeps their losses.

    Args:
        runs: folder of the store and the corpus's address; git does not know it.
        table: the committed metrics.
        deadline: time.monotonic() at which training stops with checkpoints.
        variant: another corpus than the configuration's.
    """

    def __init__(
        self,
        programme: Programme,
        runs: Path,
        table: Table,
        deadline: float,
        say: Callable[[str], None],
        variant: Variant | None = None,
    ) -> None:
        self.programme, self.table, self._variant = programme, table, variant
        self._runs, self._store, self._deadline, self._say = runs, Store(runs / "store"), deadline, say
        self._address = runs / (f"corpus-{variant.name}.txt" if variant else "corpus.txt")

    def on(self, variant: Variant) -> "Bench":
        """The same bench on another corpus."""
        return Bench(self.programme, self._runs, self.table, self._deadline, self._say, variant)

    @property
    def has_corpus(self) -> bool:
        return self._address.exists()

    def close(self) -> None:
        """Give the cluster back what the hosts hold; another bench may train then."""
        if "trainer" in self.__dict__:
            ray.kill(self.__dict__.pop("trainer").actor)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus: opened where an earlier start left it, else built on Ray Data."""
        if self.has_corpus:
            return Corpus.open(self._store, self._address.read_text().strip())
        connect()
        config, variant = self.programme.config, self._variant or Variant("")
        changes = {"sources": variant.sources_of(config), "domains": variant.domains or config.corpus.domains}
        settings = config.corpus.model_copy(update=changes)
        made = build_corpus(settings, config.seed + variant.seed, self._store)
        self._address.write_text(made.key + "\n")
        return made

    @property
    def sources(self) -> int:
        """How many files the corpus is made of."""
        patterns = (Path(source) for source in (self._variant or Variant("")).sources_of(self.programme.config))
        return sum(len(list(pattern.parent.glob(pattern.name))) for pattern in patterns)

    @cached_property
    def weights(self) -> dict[str, float]:
        return dict.fromkeys(self.corpus.domains, 1 / len(self.corpus.domains))

    @cached_property
    def trainer(self) -> ExecutorClient:
        connect()
        training = self.programme.config.training
        context = RunContext(self._store, self.corpus.key, training, f"proof/{time.time():.0f}")
        return ExecutorClient(
            self.programme.config.resources,
            context,
            self.programme.config.evaluate.validation_tokens,
            lambda kind, **values: None,
        )

    def training(self, cell: Cell) -> TrainingSettings:
        training = self.programme.config.training
        changes = {
            "learning_rate": training.learning_rate * cell.rate,
            "specialist_lr_multiplier": cell.specialist_lr_multiplier,
        }
        if cell.decay_fraction is not None:
            changes["decay_fraction"] = cell.decay_fraction
        return training.model_copy(update=changes)

    def recipe(self, cell: Cell) -> Recipe:
        seed = self.programme.config.seed + cell.seed
        return recipe(cell.shape, self.training(cell), self.corpus.identity(), self.weights, seed)

    def target(self, cell: Cell) -> Target:
        return Target.leaf(self.recipe(cell), cell.leaf, self.training(cell).schedule)

    def rows(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """The rows of cells that are trained, in their order."""
        wanted = [(self.target(cell).key, domain) for cell in cells for domain in cell.domains]
        return [found for found in self.table.select(wanted) if found is not None]

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if not self.table.holds(self.target(cell).key, cell.domains)]

    def cost(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Tokens of cells as one tree, and of training each from scratch; see `splitray.ladder.grid.cost`."""
        return cost([self.target(cell) for cell in cells], self.programme.config.training)

    def train(self, cells: Sequence[Cell]) -> None:
        """Train and score what the table lacks of cells; each result is written down when it comes.

        Raises OutOfTime at the deadline, after the hosts have left their checkpoints.
        """
        cells = self.missing(cells)
        if not cells:
            return
        requests = [Request(self.target(cell), cell.domains) for cell in cells]

        def keep(ended: list[tuple[int, dict[str, Any]]]) -> None:
            self._keep([(cells[place], result) for place, result in ended])

        ask(self.trainer, requests, keep, self._deadline, self._say)

    def restore(self, cells: Sequence[Cell]) -> None:
        """Train what the store has lost of cells, whatever the table holds of them; nothing is written down."""
        lost = [cell for cell in dict.fromkeys(cells) if self._store.find(self.target(cell).key) is None]
        requests = [Request(self.target(cell), cell.domains[:1]) for cell in lost]
        if requests:
            ask(self.trainer, requests, lambda ended: None, self._deadline, self._say)

    def scores(self, cell: Cell, domain: str) -> Scores:
        """Losses of a trained cell by validation document; raises StorageError where the store has lost them."""
        validation = validation_key(self.corpus, self.programme.config.evaluate.validation_tokens)
        name = loss_key(self.target(cell).key, validation, domain)
        held = self._store.find(name)
        if held is None:
            raise StorageError(f"{self._store.root.uri} has no {name}: its table is committed, its documents are not")
        return Scores.of(held)

    def model(self, cell: Cell) -> Any:
        """A trained cell's model, ready to be asked; raises StorageError where the store has lost it."""
        made, key = self.recipe(cell), self.target(cell).key
        held = self._store.find(key)
        if held is None:
            raise StorageError(f"{self._store.root.uri} has no {key}: its losses are committed, its weights are not")
        model = build_model(made)
        load_weights(model, load(held, moments=False))
        return model.eval()

    def _keep(self, ended: list[tuple[Cell, dict[str, Any]]]) -> None:
        rows = []
        for cell, result in ended:
            made, key = self.recipe(cell), result["key"]
            held = self._store.find(key)
            assert held is not None, key
            finished = self._store.root.local_path(f"done/{key}.json").stat().st_mtime
            for domain, scores in result["losses"].items():
                drawn = self.weights[domain] * cell.leaf.pretrain_tokens
                drawn += cell.leaf.specialize_tokens if domain == cell.leaf.domain else 0
                base = row(made, cell.leaf, domain, scores["loss"], key, self.training(cell))
                rows.append(
                    base
                    | {
                        "shape": cell.shape.label,
                        "learning_rate": made.learning_rate * cell.specialist_lr_multiplier,
                        "tokens": cell.leaf.tokens,
                        "epochs": drawn / self.corpus.counts(domain, "train")["tokens"],
                        "bits_per_byte": scores["nats"] / scores["bytes"] / 0.6931471805599453,
                        "began": round(finished - held.meta["seconds"], 1),
                        "seconds": round(held.meta["seconds"], 2),
                        "segment_tokens": held.meta["tokens_trained"],
                        "corpus": self.corpus.content_hash[:12],
                    }
                )
        if rows:
            self.table.add(rows)
