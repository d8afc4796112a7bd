"""Stage ladder: small runs over N x D x D' x domain, and their table."""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.executor.coordinator import Request
from splitray.ladder.cost import check_ladder, ladder_steps
from splitray.ladder.grid import TABLE, cost, row
from splitray.pipeline.job import Job
from splitray.units import human

_log = logging.getLogger(__name__)


def ladder(job: Job) -> dict[str, Any]:
    """Train and score every rung; their table is `runs.parquet`."""
    steps = ladder_steps(job.config, job.corpus.domains)
    recipes = {(r.shape.label, r.seed): job.recipe(r.shape, r.seed) for r in steps}
    requests = [Request(job.target(r.leaf, recipes[r.shape.label, r.seed]), r.domains) for r in steps]
    targets = [r.target for r in requests]
    check_ladder(job.config, targets, job.corpus.vocab_size)
    spent = cost(targets, job.context.training)
    _log.info(
        f"   {len(steps)} leaves in {spent['segments']:.0f} segments, {human(spent['tokens'])} tokens "
        f"({human(spent['from_scratch'])} if each were trained from scratch)"
    )
    results = job.executor.leaves(requests)
    table = [
        row(recipes[r.shape.label, r.seed], r.leaf, domain, scores["loss"], result["key"], job.context.training)
        for r, result in zip(steps, results, strict=True)
        for domain, scores in result["losses"].items()
    ]
    job.run.keep(
        "runs.parquet",
        lambda path: pq.write_table(pa.Table.from_pylist(table, TABLE), path, write_page_checksum=True),
    )
    return {
        "leaves": len(steps),
        "segments": int(spent["segments"]),
        "tokens_trained": int(spent["tokens"]),
        "tokens_from_scratch": int(spent["from_scratch"]),
        "saving": spent["from_scratch"] / spent["tokens"],
        "seeds": job.config.ladder.seeds,
    }
