"""Stage search: real trials around the plan, and the law and plan that they settle."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from splitray import law as laws
from splitray.ladder.grid import passes, row
from splitray.law.gravity import ordered
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.prediction import trials_outside
from splitray.pipeline.job import Job
from splitray.pipeline.predictions import Predictor
from splitray.pipeline.stages.planning import fitted, log_plan, planned
from splitray.results.stages import Searched, SearchResult, SearchRound, Trial
from splitray.units import counted

_log = logging.getLogger(__name__)


def run_search(job: Job) -> SearchResult:
    """Try the fractions that the law proposes, round by round; the law refitted, and the plan it makes then."""
    from splitray.search.tuner import LawSearcher, search

    settings = job.config.search
    if settings.at == "off":
        return _settle(job, job.law, None)
    family, table, training = job.programme.search(), job.table, job.programme.training

    def refit(trials: Sequence[Trial]) -> laws.Law:
        known = set(table["domain"].to_pylist())
        rows = []
        for trial in trials:
            rows += [
                row(family.recipe, trial.split.leaf(m.domain), m.domain, m.loss, m.key, training)
                | passes(job.programme.text, trial.split.leaf(m.domain), m.domain)
                for m in trial.models
                if m.domain in known
            ]
        # the ladder's own columns: a table of the first release has no schedule, and trials beside it must have none
        return fitted(job.config, pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)]))

    searcher = LawSearcher(job.law, family, settings, refit)
    with tempfile.TemporaryDirectory(prefix="splitray-tune-") as folder:
        search(searcher, family, job.context.namespace, settings, Path(folder), job.executor.watch)
    predictor = Predictor.of(job.law, table, family.params, family.weights, family.text)
    rounds = tuple(
        SearchRound(
            number,
            predictor.trials(list(each.trials.values())),
            Estimate(each.proposal.optimum, each.proposal.low, each.proposal.high),
            each.proposal.expected_gain,
        )
        for number, each in enumerate(searcher.rounds, 1)
    )
    _log.info(f"   {counted(len(searcher.trials), 'trial')}; stopped by {searcher.stopped}")
    return _settle(job, searcher.law, Searched(family.params, family.budget, rounds, searcher.stopped))


def _settle(job: Job, law: laws.Law, found: Searched | None) -> SearchResult:
    """Keep the law and the plan that will be carried out."""
    final = planned(job.programme, law)
    if raised := _contradiction(found):
        final = replace(final, warnings=ordered((raised, *final.warnings)))
    # a refit words the law's warnings a little differently: a kind that stages law and plan named is not named again
    kinds = {warning.code for warning in job.run.kept("plan.json", laws.Plan.load).warnings}
    log_plan(final, job.programme.budget, [warning for warning in final.warnings if warning.code in kinds])
    job.run.keep("law_final.json", law.save)
    job.run.keep("plan_final.json", final.save)
    return SearchResult(found, final)


def _contradiction(found: Searched | None) -> laws.LawWarning | None:
    """A warning where the trials lie outside what was predicted of them."""
    predictions = [trial.prediction for trial in found.trials if trial.prediction] if found else []
    inside = [p.inside for p in predictions if p.inside is not None]
    return trials_outside(inside.count(False), len(inside), predictions[0].level) if inside else None
