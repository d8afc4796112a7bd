"""One run of the main job, as its stages see it: config, run folder, store, corpus, trainer, law and split."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray import law as laws
from splitray.config import Config
from splitray.corpus import Corpus
from splitray.errors import CorruptError
from splitray.executor.client import ExecutorClient
from splitray.executor.connect import uses_gpu
from splitray.executor.coordinator import Request
from splitray.executor.precision import resolve_precision
from splitray.executor.worker import RunContext
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Limits, Question
from splitray.pipeline.run_folder import RunFolder
from splitray.storage.store import Store
from splitray.training.model import size
from splitray.training.settings import ModelShape
from splitray.training.split import Split, whole_budget
from splitray.training.tree import Recipe, Target, recipe
from splitray.units import human

_NAMED = 3  # domains in one warning


@dataclass
class Job:
    """What stages share. Everything is made when first asked for: a finished run starts no owner."""

    run: RunFolder
    store: Store

    @property
    def config(self) -> Config:
        return self.run.config

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that stage corpus left in the store."""
        return Corpus.open(self.store, self.run.result("corpus")["key"])

    @cached_property
    def precision(self) -> str:
        """fp32 or bf16: as configured, or measured once and kept with the run."""
        if self.config.training.precision != "auto":
            return self.config.training.precision
        name = "precision.json"
        if not self.run.folder.exists(name):
            self.run.folder.write_checksummed(name, self._measured_precision())
        try:
            return str(self.run.folder.read_checksummed(name)["precision"])
        except CorruptError as error:
            raise CorruptError(f"{error}; delete it, and it is measured again") from error

    def _measured_precision(self) -> dict[str, Any]:
        config = self.config
        return resolve_precision(config.model, config.training, config.corpus.tokenizer.vocabulary, self.use_gpu)

    @cached_property
    def use_gpu(self) -> bool:
        return uses_gpu(self.config.resources)

    @cached_property
    def context(self) -> RunContext:
        """What every host of this start shares; a namespace of its own keeps two starts apart."""
        training = self.config.training.model_copy(update={"precision": self.precision})
        namespace = f"splitray/{self.config.name}/{datetime.now(UTC):%H%M%S%f}"
        silence = self.config.resources.silence_seconds
        return RunContext(self.store, self.corpus.key, training, namespace, self.use_gpu, silence)

    @cached_property
    def executor(self) -> ExecutorClient:
        return ExecutorClient(
            self.config.resources,
            self.context,
            self.config.evaluate.validation_tokens,
            self.run.event,
        )

    def stop(self) -> None:
        """Have every host checkpoint what it trains."""
        if "executor" in self.__dict__:
            self.executor.stop()

    @cached_property
    def weights(self) -> dict[str, float]:
        """By domain; see `domain_weights`."""
        return domain_weights(self.config, self.corpus)

    def recipe(self, shape: ModelShape, seed: int = 0) -> Recipe:
        """What decides the bits of a model of this shape, on this corpus, with the run's seed plus `seed`."""
        return recipe(shape, self.context.training, self.corpus.identity(), self.weights, self.config.seed + seed)

    def params(self, shape: ModelShape) -> int:
        """N of a shape with the corpus's vocabulary."""
        return size(shape, self.corpus.vocab_size, self.config.training.tie_embeddings).params

    @property
    def budget(self) -> int:
        """D_T in whole batches of every domain."""
        return whole_budget(self.config.budget, len(self.weights), self.config.training.batch_tokens)

    def target(self, leaf: Any, recipe: Recipe) -> Target:
        return Target.leaf(recipe, leaf, self.config.training.schedule)

    @property
    def law(self) -> laws.Law:
        """The law fitted on the ladder alone."""
        return self.run.kept("law.json", laws.Law.load)

    @property
    def table(self) -> pa.Table:
        """The ladder's runs."""
        return self.run.kept("runs.parquet", pq.read_table)

    def fit(self, table: pa.Table) -> laws.Law:
        settings = self.config.law
        return laws.fit(
            table, form=settings.form, objective=settings.objective, seed=self.config.seed, bootstrap=settings.bootstrap
        )

    def plan(self, law: laws.Law, params: int, budget: int) -> laws.Plan:
        """The law's plan; with weights by domain where the law knows every domain, else its mean stands for all."""
        tokens, settings = training_tokens(self.corpus), self.config.plan
        limits = Limits(settings.min_pretrain_tokens, tokens, settings.epochs)
        made = answer(law, Question.weighing(law, params, budget, self.weights, limits))
        told = (unweighted(law, self.weights), repeats(budget, tokens, self.weights))
        return replace(made, warnings=(*made.warnings, *(warning for warning in told if warning)))

    def group(self, shape: ModelShape) -> int:
        """Workers of the group that trains a shape's mixture segments; the ladder's shapes train in the pool."""
        return self.config.resources.base_workers if shape == self.config.model else 0

    @property
    def split(self) -> Split:
        """The split that the run settled on, in whole batches."""
        fraction = self.run.result("search")["final_plan"]["split_fraction"]["value"]
        return Split.at(fraction, self.budget, self.weights, self.config.training.batch_tokens)

    def requests(self, split: Split, domains: tuple[str, ...] | None, specialist: int) -> list[Request]:
        """A request for each domain's model, scored on `domains` (None: on its own)."""
        made = self.recipe(self.config.model)
        return [
            Request(
                self.target(split.leaf(d), made),
                domains or (d,),
                mixture_workers=self.group(self.config.model),
                domain_workers=specialist if split.specialize_tokens[d] else 0,
            )
            for d in self.weights
        ]

    def export(self, key: str, name: str, card: dict[str, Any]) -> None:
        """Write a published model to the run folder as transformers reads it."""
        from splitray.export.huggingface import export

        export(self.store, key, self.corpus.tokenizer_path(), self.run.folder / name, {"run": self.config.name, **card})


def domain_weights(config: Config, corpus: Corpus) -> dict[str, float]:
    """The one weight vector: mixture sampling, uniform D'_k, mean loss and every baseline."""
    if config.weights == "uniform":
        return dict.fromkeys(corpus.domains, 1.0 / len(corpus.domains))
    tokens = training_tokens(corpus)
    return {d: n / sum(tokens.values()) for d, n in tokens.items()}


def training_tokens(corpus: Corpus) -> dict[str, int]:
    """Tokens of every domain's training text."""
    return {d: corpus.counts(d, "train")["tokens"] for d in corpus.domains}


def unweighted(law: laws.Law, weights: Mapping[str, float]) -> laws.LawWarning | None:
    """A warning where domains weigh differently and the law lacks some of them, so that it plans with equal weights."""
    if len(set(weights.values())) == 1 or set(weights) <= set(law.domains):
        return None
    return laws.LawWarning(
        "weights_left_out",
        "the plan leaves the domains' weights out",
        f"the ladder covers {len(law.domains)} of {len(weights)} domains, so the mean of these, at the mean D', stands "
        "for every domain, while training and comparisons weigh them by their size",
        f"set ladder.domains to {len(weights)}, or weights to uniform",
    )


def repeats(budget: int, tokens: Mapping[str, int], weights: Mapping[str, float]) -> laws.LawWarning | None:
    """A warning where the budget reads some domain's training text more than once: w_k (D + sum D') of it is drawn."""
    passes = {d: weights[d] * budget / n for d, n in tokens.items()}
    often = sorted((d for d in passes if passes[d] > 1), key=lambda d: -passes[d])
    if not often:
        return None
    named = ", ".join(f"{d} {passes[d]:.3g} times" for d in often[:_NAMED])
    more = f" and {len(often) - _NAMED} more domains" if len(often) > _NAMED else ""
    return laws.LawWarning(
        "repeated_text",
        "training text is read more than once",
        f"wherever it is split, a budget of {human(budget)} tokens reads {named}{more}",
        "add text of these domains, or lower the budget; up to 4 passes are nearly as good as new text",
    )
