"""Stage search: real trials around the plan, and the law and plan that they settle."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from splitray import law as laws
from splitray.executor.coordinator import in_group
from splitray.ladder.grid import TABLE, row
from splitray.pipeline.job import Job
from splitray.training.split import whole_budget

_log = logging.getLogger(__name__)


def search(job: Job) -> dict[str, Any]:
    """Try the fractions that the law proposes, round by round; the law refitted, and the plan it makes then."""
    from splitray.search.tuner import LawSearcher, Problem, predicted, search

    settings = job.config.search
    if settings.at == "off":
        return _settle(job, job.law, None)
    shape = job.config.model if settings.at == "target" else job.config.ladder.shapes[-1]
    made, params = job.recipe(shape), job.params(shape)
    budget = whole_budget(settings.budget or job.budget, len(job.weights), made.batch_tokens)
    problem = Problem(
        made,
        params,
        budget,
        job.weights,
        job.config.training.schedule,
        job.group(shape),
        in_group(job.config.resources.specialist_workers) if shape == job.config.model else 0,
        job.context.namespace,
    )
    table = job.table

    def refit(trials: list[dict[str, Any]]) -> laws.Law:
        known = set(table["domain"].to_pylist())
        rows = []
        for trial in trials:
            split = problem.split(trial["split_fraction"])
            rows += [
                row(made, split.leaf(m["domain"]), m["domain"], m["loss"], m["key"], job.context.training)
                for m in trial["models"]
                if m["domain"] in known
            ]
        return job.fit(pa.concat_tables([table, pa.Table.from_pylist(rows, TABLE)]))

    searcher = LawSearcher(job.law, problem, settings, refit)
    with tempfile.TemporaryDirectory(prefix="splitray-tune-") as folder:
        search(searcher, problem, settings, Path(folder), job.executor.watch)
    rounds = [
        {
            "round": number,
            "trials": [
                {**trial, "predicted": predicted(job.law, problem, trial["split_fraction"])}
                for trial in each.trials.values()
            ],
            "optimum": {"value": each.proposal.optimum, "low": each.proposal.low, "high": each.proposal.high},
            "expected_gain": each.proposal.expected_gain,
        }
        for number, each in enumerate(searcher.rounds, 1)
    ]
    _log.info(f"   {len(searcher.trials)} trials; stopped by {searcher.stopped}")
    found = {"params": params, "budget": budget, "rounds": rounds, "stopped": searcher.stopped}
    return _settle(job, searcher.law, found)


def _settle(job: Job, law: laws.Law, found: dict[str, Any] | None) -> dict[str, Any]:
    """Keep the law and the plan that will be carried out."""
    final = job.plan(law, job.params(job.config.model), job.budget)
    job.run.keep("law_final.json", law.save)
    job.run.keep("plan_final.json", final.save)
    return {"search": found, "final_plan": final.plain()}
