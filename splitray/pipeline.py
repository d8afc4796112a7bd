"""The main job: corpus -> ladder -> law -> plan -> search -> base -> specialists -> evaluation -> report.

Each stage reads the records of earlier ones from the run folder and leaves its own; none knows what comes after it.
Everything trained goes through the owner of the tree, so a stage that is run again finds its segments standing.
"""

import contextlib
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splitray import law as laws
from splitray.cluster import Trainer, machine, uses_gpu
from splitray.config import Config
from splitray.corpus import Corpus, build
from splitray.corpus.pipeline import corpus_key
from splitray.corpus.sources import list_sources
from splitray.errors import CorruptError, UserError
from splitray.evaluate.compare import Scores, difference, matrix, mean, routed
from splitray.evaluate.loss import validation_key
from splitray.fingerprint import sealed, unsealed
from splitray.law.question import Limits
from splitray.numbers import human
from splitray.run import STAGES, Run
from splitray.split import Split, whole_budget
from splitray.store import Store
from splitray.summary import summarise
from splitray.training.host import Site, loss_key
from splitray.training.ladder import TABLE, Rung, cost, row, rungs, spread
from splitray.training.model import size
from splitray.training.owner import Request
from splitray.training.precision import resolve
from splitray.training.settings import ModelShape
from splitray.training.tree import Recipe, Target, flops, recipe

STRATEGIES = {1.0: "unsplit", 0.0: "split at zero", 0.5: "split at one half"}


@dataclass
class Pipeline:
    """The stages of one run, in order; each a method of its name."""

    run: Run
    store: Store

    @property
    def config(self) -> Config:
        return self.run.config

    def go(self, until: str) -> dict[str, Any]:
        """Run what is missing up to a stage; the summary of what stands then."""
        for stage in STAGES[: STAGES.index(until) + 1]:
            if not self._stands(stage):
                with self._counted(stage) as result:
                    result.update(getattr(self, stage)())
        return self.summary()

    def _stands(self, stage: str) -> bool:
        """Whether a stage is done and, for the corpus, the store still holds it: one found damaged is withdrawn."""
        record = self.run.done(stage)
        if record is None or stage != "corpus":
            return record is not None
        return self.store.find(record["result"]["key"]) is not None

    def stop(self) -> None:
        """Have every host checkpoint what it trains."""
        if "trainer" in self.__dict__:
            self.trainer.stop()

    @contextmanager
    def _counted(self, stage: str) -> Any:
        trains = stage in ("ladder", "search", "base", "specialists", "evaluate")
        if trains:
            self.trainer.begin_stage()

        def work() -> dict[str, Any]:
            return {k: v for k, v in self.trainer.progress().items() if k != "running"} if trains else {}

        with self.run.stage(stage, work) as result:
            yield result

    # what the stages share

    @cached_property
    def corpus_(self) -> Corpus:
        return Corpus.open(self.store, self.run.result("corpus")["key"])

    @cached_property
    def precision(self) -> str:
        """fp32 or bf16: as configured, or measured once and kept with the run."""
        if self.config.training.precision != "auto":
            return self.config.training.precision
        name = "precision.json"
        if not self.run.folder.exists(name):
            self.run.folder.write_json(name, sealed(self._measured_precision()))
        where = f"{self.run.folder.uri}/{name}"
        try:
            return str(unsealed(self.run.folder.read_json(name), where)["precision"])
        except CorruptError as error:
            raise CorruptError(f"{error}; delete it, and it is measured again") from error

    def _measured_precision(self) -> dict[str, Any]:
        config = self.config
        return resolve(config.model, config.training, config.corpus.tokenizer.vocabulary, self.use_gpu, self.run.say)

    @cached_property
    def use_gpu(self) -> bool:
        return uses_gpu(self.config)

    @cached_property
    def site(self) -> Site:
        training = self.config.training.model_copy(update={"precision": self.precision})
        namespace = f"splitray/{self.config.name}/{datetime.now(UTC):%H%M%S%f}"
        return Site(self.store, self.corpus_.key, training, namespace, self.use_gpu)

    @cached_property
    def trainer(self) -> Trainer:
        return Trainer(self.config, self.site, self.run.say, self.run.event)

    @cached_property
    def weights(self) -> dict[str, float]:
        return domain_weights(self.config, self.corpus_)

    def recipe(self, shape: ModelShape, seed: int = 0) -> Recipe:
        corpus = {
            "content_hash": self.corpus_.content_hash,
            "vocab": self.corpus_.vocab_size,
            "end_token": self.corpus_.end_token,
        }
        return recipe(shape, self.site.training, corpus, self.weights, self.config.seed + seed)

    def params(self, shape: ModelShape) -> int:
        return size(shape, self.corpus_.vocab_size, self.config.training.tie_embeddings).params

    @property
    def budget(self) -> int:
        return whole_budget(self.config.budget, len(self.weights), self.config.training.batch_tokens)

    def target(self, leaf: Any, recipe: Recipe) -> Target:
        return Target.leaf(recipe, leaf, self.config.training.decay_share)

    @property
    def law_(self) -> laws.Law:
        return self.run.kept("law.json", laws.Law.load)

    # the stages

    def corpus(self) -> dict[str, Any]:
        if (before := self.run.done("corpus")) is not None:
            key = corpus_key(self.config.corpus, self.config.seed, list_sources(self.config.corpus)[0])
            if key != before["result"]["key"]:
                raise UserError(
                    f"the store lost this run's corpus {before['result']['key']}, and its sources, or splitray, have "
                    f"changed since it was built (they make {key} now): restore them, or give another --run-dir"
                )
        corpus = build(self.config.corpus, self.config.seed, self.store, self.run.say)
        domains = []
        for name in corpus.domains:
            counts = {split: corpus.counts(name, split) for split in ("train", "validation")}
            plain = {s: {k: c[k] for k in ("tokens", "documents", "bytes")} for s, c in counts.items()}
            domains.append({"name": name, **plain})
            self.run.say(
                f"   {name}: {plain['train']['documents']} documents, {human(plain['train']['tokens'])} tokens"
            )
            if plain["validation"]["documents"] == 0:
                raise UserError(
                    f"domain {name} has no validation document: raise corpus.validation_share "
                    f"(now {self.config.corpus.validation_share}) or lower corpus.domains"
                )
        return {"key": corpus.key, "domains": domains}

    def _rungs(self) -> list[Rung]:
        ladder, batch = self.config.ladder, self.config.training.round_tokens
        names = spread(self.corpus_.domains, ladder.domains)
        return rungs(
            ladder.shapes,
            [batch(d) for d in ladder.pretrain_tokens],
            [batch(d) for d in ladder.specialize_tokens],
            names,
            range(ladder.seeds),
        )

    def ladder(self) -> dict[str, Any]:
        steps = self._rungs()
        recipes = {(r.shape.label, r.seed): self.recipe(r.shape, r.seed) for r in steps}
        requests = [Request(self.target(r.leaf, recipes[r.shape.label, r.seed]), r.domains) for r in steps]
        spent = cost([r.target for r in requests], self.site.training)
        check_ladder(self.config, spent["flops"], self.corpus_.vocab_size)
        self.run.say(
            f"   {len(steps)} leaves in {spent['segments']:.0f} segments, {human(spent['tokens'])} tokens "
            f"({human(spent['from_scratch'])} if each were trained from scratch)"
        )
        results = self.trainer.leaves(requests)
        table = [
            row(recipes[r.shape.label, r.seed], r.leaf, domain, scores["loss"], result["key"], self.site.training)
            for r, result in zip(steps, results, strict=True)
            for domain, scores in result["losses"].items()
        ]
        self.run.keep(
            "runs.parquet",
            lambda path: pq.write_table(pa.Table.from_pylist(table, TABLE), path, write_page_checksum=True),
        )
        return {
            "leaves": len(steps),
            "segments": int(spent["segments"]),
            "tokens_trained": int(spent["tokens"]),
            "tokens_from_scratch": int(spent["from_scratch"]),
            "saving": spent["from_scratch"] / spent["tokens"],
            "seeds": self.config.ladder.seeds,
        }

    def _fit(self, table: pa.Table) -> laws.Law:
        settings = self.config.law
        return laws.fit(
            table, form=settings.form, objective=settings.objective, seed=self.config.seed, bootstrap=settings.bootstrap
        )

    def _plan(self, law: laws.Law, params: int, budget: int) -> laws.Plan:
        """The law's plan; with weights by domain where the law knows every domain, else its mean stands for all."""
        weighted = self.config.weights != "uniform" and set(law.domains) == set(self.weights)
        return laws.plan(
            law,
            params=params,
            budget=budget,
            domains=list(self.weights) if weighted else len(self.weights),
            weights=list(self.weights.values()) if weighted else None,
            limits=Limits(min_pretrain=self.config.plan.min_pretrain_tokens),
        )

    def _table(self) -> pa.Table:
        return self.run.kept("runs.parquet", pq.read_table)

    def law(self) -> dict[str, Any]:
        law = self._fit(self._table())
        self.run.keep("law.json", law.save)
        for warning in law.warnings:
            self.run.say(f"   warning: {warning}")
        return {"form": law.form}

    def plan(self) -> dict[str, Any]:
        made = self._plan(self.law_, self.params(self.config.model), self.budget)
        self.run.keep("plan.json", made.save)
        self.run.say(
            f"   split after {made.split_fraction.value:.0%} of {human(self.budget)} tokens "
            f"({_between(made.split_fraction, '.0%')}); predicted loss {made.predicted_loss.value:.3f}, "
            f"unsplit {made.unsplit_loss.value:.3f}"
        )
        return made.plain()

    def search(self) -> dict[str, Any]:
        from splitray.search.tuner import LawSearcher, Problem, predicted, search

        settings = self.config.search
        if settings.at == "off":
            return self._settle(self.law_, None)
        shape = self.config.model if settings.at == "target" else self.config.ladder.shapes[-1]
        made, params = self.recipe(shape), self.params(shape)
        budget = whole_budget(settings.budget or self.budget, len(self.weights), made.batch_tokens)
        problem = Problem(
            made,
            params,
            budget,
            self.weights,
            self.config.training.decay_share,
            self._group(shape),
            self.site.namespace,
        )
        table = self._table()

        def refit(trials: list[dict[str, Any]]) -> laws.Law:
            known = set(table["domain"].to_pylist())
            rows = []
            for trial in trials:
                split = problem.split(trial["split_fraction"])
                rows += [
                    row(made, split.leaf(m["domain"]), m["domain"], m["loss"], m["key"], self.site.training)
                    for m in trial["models"]
                    if m["domain"] in known
                ]
            return self._fit(pa.concat_tables([table, pa.Table.from_pylist(rows, TABLE)]))

        searcher = LawSearcher(self.law_, problem, settings, refit)
        with tempfile.TemporaryDirectory(prefix="splitray-tune-") as folder:
            search(searcher, problem, settings, Path(folder), self.trainer.watch)
        rounds = [
            {
                "round": number,
                "trials": [
                    {**trial, "predicted": predicted(self.law_, problem, trial["split_fraction"])}
                    for trial in each.trials.values()
                ],
                "optimum": {"value": each.proposal.optimum, "low": each.proposal.low, "high": each.proposal.high},
                "expected_gain": each.proposal.expected_gain,
            }
            for number, each in enumerate(searcher.rounds, 1)
        ]
        self.run.say(f"   {len(searcher.trials)} trials; stopped by {searcher.stopped}")
        found = {"params": params, "budget": budget, "rounds": rounds, "stopped": searcher.stopped}
        return self._settle(searcher.law, found)

    def _settle(self, law: laws.Law, found: dict[str, Any] | None) -> dict[str, Any]:
        """Keep the law and the plan that will be carried out."""
        final = self._plan(law, self.params(self.config.model), self.budget)
        self.run.keep("law_final.json", law.save)
        self.run.keep("plan_final.json", final.save)
        return {"search": found, "final_plan": final.plain()}

    def _group(self, shape: ModelShape) -> int:
        """Workers of the group that trains a shape's mixture segments; the ladder's shapes train in the pool."""
        return self.config.resources.base_workers if shape == self.config.model else 0

    @property
    def split(self) -> Split:
        """The split that the run settled on, in whole batches."""
        fraction = self.run.result("search")["final_plan"]["split_fraction"]["value"]
        return Split.at(fraction, self.budget, self.weights, self.config.training.batch_tokens)

    def base(self) -> dict[str, Any]:
        """Train the shared trunk up to D, and export the state that the specialists start from."""
        split, made = self.split, self.recipe(self.config.model)
        domain = next((d for d, tokens in split.specialize_tokens.items() if tokens), None)
        trunk = (
            Target.trunk(made, split.leaf(domain), self.config.training.decay_share)
            if domain is not None
            else self.target(split.leaf(next(iter(self.weights))), made)
        )
        if trunk is None:
            self.run.say("   the plan splits at zero tokens: there is no base")
            return {"path": None, "key": None, "tokens": 0}
        self.trainer.leaves([Request(trunk, group=self._group(self.config.model))])
        self._export(trunk.key, "base", {"pretrain_tokens": split.pretrain_tokens, "specialize_tokens": 0})
        return {"path": "base", "key": trunk.key, "tokens": split.pretrain_tokens}

    def _export(self, key: str, name: str, card: dict[str, Any]) -> None:
        from splitray.specialize.export import export

        export(
            self.store, key, self.corpus_.tokenizer_path(), self.run.folder / name, {"run": self.config.name, **card}
        )

    def _requests(self, split: Split, domains: tuple[str, ...] | None, specialist: int) -> list[Request]:
        """A request for each domain's model, scored on `domains` (None: on its own)."""
        made = self.recipe(self.config.model)
        return [
            Request(
                self.target(split.leaf(d), made),
                domains or (d,),
                group=self._group(self.config.model),
                specialist=specialist if split.specialize_tokens[d] else 0,
            )
            for d in self.weights
        ]

    def specialists(self) -> dict[str, Any]:
        """Train one specialist a domain, each on its own named actor, and export them."""
        split, domains = self.split, tuple(self.weights)
        results = self.trainer.leaves(self._requests(split, domains, self.config.resources.specialist_workers))
        listed = []
        for domain, result in zip(domains, results, strict=True):
            tokens = split.specialize_tokens[domain]
            card = {"domain": domain, "pretrain_tokens": split.pretrain_tokens, "specialize_tokens": tokens}
            self._export(result["key"], f"specialists/{domain}", card)
            listed.append({"domain": domain, "path": f"specialists/{domain}", "key": result["key"], "tokens": tokens})
            self.run.say(f"   {domain}: loss {result['losses'][domain]['loss']:.4f} after {human(tokens)} tokens")
        return {"specialists": listed}

    def _scores(self, key: str, domain: str) -> Scores:
        name = loss_key(key, validation_key(self.corpus_, self.config.evaluate.validation_tokens), domain)
        held = self.store.find(name)
        assert held is not None, name
        with self.store.condemning(held):
            nats, tokens = np.load(held.fetch("documents.npy"), allow_pickle=False)
        return Scores(nats, tokens, int(held.meta["bytes"]))

    def evaluate(self) -> dict[str, Any]:
        """Loss matrix, routed loss, and the planned split against the baselines at the same total tokens."""
        domains, batch = tuple(self.weights), self.config.training.batch_tokens
        splits = {"planned split": self.split}
        for fraction in self.config.evaluate.baselines:
            name = STRATEGIES.get(fraction, f"split at {fraction:g}")
            splits[name] = Split.at(fraction, self.budget, self.weights, batch)
        reference = self._unsplit_at_base()
        requests = [r for s in splits.values() for r in self._requests(s, None, 0)]
        requests += [Request(reference, domains, group=self._group(self.config.model))] if reference else []
        results = iter(self.trainer.leaves(requests))
        scores = {n: {d: self._scores(next(results)["key"], d) for d in domains} for n in splits}
        specialists = {s["domain"]: s["key"] for s in self.run.result("specialists")["specialists"]}
        rows = {d: {e: self._scores(specialists[d], e) for e in domains} for d in domains}
        shown = {"base (unsplit leaf at D)": {d: self._scores(reference.key, d) for d in domains}} if reference else {}
        return {
            "matrix": matrix({**shown, **rows}, domains),
            "routed": routed(rows, self._routes(), domains, self.weights)
            | {"prefix_characters": self.config.evaluate.prefix_characters},
            "comparison": [self._compared(name, splits[name], scores) for name in splits],
            "note": "The unsplit leaf at D has a decay of its own, which is outside the budget. Intervals are over "
            "validation documents, for these models: another training seed would move them too.",
        }

    def _unsplit_at_base(self) -> Target | None:
        """The unsplit model of the base's D: what the specialists started from, finished."""
        split = self.split
        if split.pretrain_tokens == 0:
            return None
        from splitray.training.tree import Leaf

        return self.target(Leaf(split.pretrain_tokens), self.recipe(self.config.model))

    def _routes(self) -> dict[str, np.ndarray]:
        """Where the router sends every scored validation document from its first characters."""
        router, routes = self.corpus_.router(), {}
        for domain in self.weights:
            scored = len(self._scores(self.run.result("specialists")["specialists"][0]["key"], domain).tokens)
            texts = self.corpus_.documents(domain, "validation")["text"].to_pylist()[:scored]
            routes[domain] = router.route([t[: self.config.evaluate.prefix_characters] for t in texts])
        return routes

    def _compared(self, name: str, split: Split, scores: dict[str, dict[str, Scores]]) -> dict[str, Any]:
        mine, unsplit = scores[name], scores.get("unsplit")
        by_domain = {d: mine[d].loss for d in self.weights}
        return {
            "strategy": name,
            "split_fraction": split.fraction,
            "pretrain_tokens": split.pretrain_tokens,
            "specialize_tokens": sum(split.specialize_tokens.values()) / len(self.weights),
            "tokens": split.budget,
            "loss": mean(by_domain, self.weights),
            "bits_per_byte": mean({d: mine[d].bits_per_byte for d in self.weights}, self.weights),
            "by_domain": by_domain,
            "difference": difference(mine, unsplit, self.weights) if unsplit else None,
            "epochs": max(
                (self.weights[d] * split.pretrain_tokens + split.specialize_tokens[d])
                / self.corpus_.counts(d, "train")["tokens"]
                for d in self.weights
            ),
        }

    def report(self) -> dict[str, Any]:
        from splitray.report import write

        summary = self.summary()
        law = self.run.kept("law_final.json", laws.Law.load)
        made = self.run.kept("plan_final.json", laws.Plan.load)
        path = write(summary, law, made, self.corpus_, self.run.folder)
        for name in ("summary.json", path):
            self.run.note(name)
        return {"path": path}

    # the summary

    def summary(self) -> dict[str, Any]:
        """Every number of the run so far; also written as `summary.json`."""
        name = "summary.json"
        records = {stage: self.run.done(stage) for stage in STAGES}
        last = max((r["began"] + r["seconds"] for s, r in records.items() if r and s != "report"), default=0.0)
        with contextlib.suppress(FileNotFoundError, CorruptError):
            before = unsealed(self.run.folder.read_json(name), name)
            if before["as_of"] == last:
                return before
        facts = {
            "as_of": last,
            "machine": machine(),
            "precision": self.precision,
            "budget": self.budget,
            "law": self.law_ if records["law"] else None,
            "table": self._table().to_pylist() if records["ladder"] else None,
        }
        stand = {s: r for s, r in records.items() if r is not None}
        summary = summarise(self.config, stand, self.corpus_, self.weights, facts)
        self.run.folder.write_json(name, sealed(summary))
        return summary


def domain_weights(config: Config, corpus: Corpus) -> dict[str, float]:
    """The one weight vector: mixture sampling, uniform D'_k, mean loss and every baseline."""
    if config.weights == "uniform":
        return dict.fromkeys(corpus.domains, 1.0 / len(corpus.domains))
    tokens = {d: corpus.counts(d, "train")["tokens"] for d in corpus.domains}
    return {d: n / sum(tokens.values()) for d, n in tokens.items()}


def check_ladder(config: Config, ladder_flops: float, vocab: int) -> None:
    """Refuse a ladder that costs more than the setting allows."""
    counted = size(config.model, vocab, config.training.tie_embeddings)
    whole = flops(counted.params, config.budget, counted.layers, counted.hidden, config.training.sequence_length)
    if ladder_flops > config.ladder.max_share * whole:
        raise UserError(
            f"the ladder costs {ladder_flops:.3g} FLOPs, {ladder_flops / whole:.2f} times the budget's {whole:.3g} "
            f"({config.budget} tokens at {counted.params} parameters); ladder.max_share = {config.ladder.max_share} "
            "allows less: shrink ladder.shapes or its token counts, raise budget, or raise ladder.max_share"
        )


def _between(estimate: Any, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"
