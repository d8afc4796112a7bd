"""Stage ladder: small runs over N x D x D' x domain, and their table."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.ladder.grid import TABLE, cost, passes, row
from splitray.pipeline.job import Job
from splitray.results.stages import LadderResult
from splitray.units import human

_log = logging.getLogger(__name__)


def run_ladder(job: Job) -> LadderResult:
    """Train and score every rung; their table is `runs.parquet`."""
    steps, requests = zip(*job.programme.ladder(), strict=True)
    job.programme.check_ladder()
    spent = cost([r.target for r in requests], job.programme.training)
    _log.info(
        f"   {len(steps)} leaves in {spent['segments']:.0f} segments, {human(spent['tokens'])} tokens "
        f"({human(spent['from_scratch'])} if each were trained from scratch)"
    )
    results = job.executor.leaves(requests)
    table = [
        row(request.target.recipe, step.leaf, domain, scores["loss"], result["key"], job.programme.training)
        | passes(job.programme.text, step.leaf, domain)
        for step, request, result in zip(steps, requests, results, strict=True)
        for domain, scores in result["losses"].items()
    ]
    job.run.keep(
        "runs.parquet",
        lambda path: pq.write_table(pa.Table.from_pylist(table, TABLE), path, write_page_checksum=True),
    )
    return LadderResult(
        leaves=len(steps),
        segments=int(spent["segments"]),
        tokens_trained=int(spent["tokens"]),
        tokens_from_scratch=int(spent["from_scratch"]),
        saving=spent["from_scratch"] / spent["tokens"],
        seeds=job.config.ladder.seeds,
    )
