"""Stage ladder: small runs over N x D x D' x domain, and their table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.ladder.grid import TABLE, cost, passes, row
from splitray.ladder.rates import STRATEGIES, Swept, fit_rates
from splitray.pipeline.job import Job
from splitray.results.rates import Rates
from splitray.results.stages import LadderResult
from splitray.runtime.ahead import importing
from splitray.units import human

_log = logging.getLogger(__name__)
# What the first export needs. On a machine with one H100 all workers idled for the 15 s that its import took. Not
# DeepSpeed, which warns of every machine without a GPU where it is imported outside `deepspeed_environment`.
_EXPORT = ("transformers.models.llama.modeling_llama", "transformers.models.auto.tokenization_auto")


def run_ladder(job: Job) -> LadderResult:
    """Train and score every rung; their table is `runs.parquet`."""
    steps, requests = zip(*job.programme.ladder(), strict=True)
    swept = job.programme.rate_sweep()
    job.programme.check_ladder()
    asked = [*requests, *(request for _, request in swept)]
    spent = cost([r.target for r in asked], job.programme.training)
    _log.info(
        f"   {len(asked)} leaves in {spent['segments']:.0f} segments, {human(spent['tokens'])} tokens "
        f"({human(spent['from_scratch'])} if each were trained from scratch)"
    )
    with importing(*_EXPORT):
        results = job.executor.leaves(asked)
    table = [
        row(request.target.recipe, step.leaf, domain, scores["loss"], result["key"], job.programme.training)
        | passes(job.programme.text, step.leaf, domain)
        for step, request, result in zip(steps, requests, results[: len(steps)], strict=True)
        for domain, scores in result["losses"].items()
    ]
    job.run.keep(
        "runs.parquet",
        lambda path: pq.write_table(pa.Table.from_pylist(table, TABLE), path, write_page_checksum=True),
    )
    rates = _rates(job, [each for each, _ in swept], results[len(steps) :]) if swept else None
    return LadderResult(
        leaves=len(asked),
        segments=int(spent["segments"]),
        tokens_trained=int(spent["tokens"]),
        tokens_from_scratch=int(spent["from_scratch"]),
        saving=spent["from_scratch"] / spent["tokens"],
        seeds=job.config.ladder.seeds,
        rates=rates,
    )


def _rates(job: Job, swept: Sequence[Swept], results: Sequence[Mapping[str, Any]]) -> Rates:
    """The best rates by the sweep, whose table is `rates.parquet`; the programme of what follows has them."""
    programme = job.programme
    rows = [
        {
            "params": programme.size(each.shape).params,
            "budget": each.budget,
            "fraction": each.fraction,
            "multiple": each.multiple,
            "domain": domain,
            "loss": scores["loss"],
            "run": result["key"],
        }
        for each, result in zip(swept, results, strict=True)
        for domain, scores in result["losses"].items()
    ]
    job.run.keep("rates.parquet", lambda path: pq.write_table(pa.Table.from_pylist(rows), path))
    rates = fit_rates(rows)
    params, budget = programme.size(job.config.model).params, programme.budget
    unsplit, split = (rates.multiple(params, budget, fraction) for fraction in STRATEGIES)
    _log.info(
        f"   best learning rates for {human(params)} and {human(budget)} tokens, over training.learning_rate: "
        f"unsplit {unsplit:.2f}, split {split:.2f}"
    )
    job.programme = replace(programme, rates=rates)
    return rates
