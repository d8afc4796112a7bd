"""Stage ladder: small runs over N x D x D' x domain, and their table."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from splitray.config import Config
from splitray.errors import UserError
from splitray.job import Job
from splitray.numbers import human
from splitray.training.ladder import TABLE, Rung, cost, row, rungs, spread
from splitray.training.model import size
from splitray.training.owner import Request
from splitray.training.tree import flops


def ladder(job: Job) -> dict[str, Any]:
    """Train and score every rung; their table is `runs.parquet`."""
    steps = _rungs(job)
    recipes = {(r.shape.label, r.seed): job.recipe(r.shape, r.seed) for r in steps}
    requests = [Request(job.target(r.leaf, recipes[r.shape.label, r.seed]), r.domains) for r in steps]
    spent = cost([r.target for r in requests], job.site.training)
    check_ladder(job.config, spent["flops"], job.corpus.vocab_size)
    job.run.say(
        f"   {len(steps)} leaves in {spent['segments']:.0f} segments, {human(spent['tokens'])} tokens "
        f"({human(spent['from_scratch'])} if each were trained from scratch)"
    )
    results = job.trainer.leaves(requests)
    table = [
        row(recipes[r.shape.label, r.seed], r.leaf, domain, scores["loss"], result["key"], job.site.training)
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


def _rungs(job: Job) -> list[Rung]:
    ladder, batch = job.config.ladder, job.config.training.round_tokens
    names = spread(job.corpus.domains, ladder.domains)
    return rungs(
        ladder.shapes,
        [batch(d) for d in ladder.pretrain_tokens],
        [batch(d) for d in ladder.specialize_tokens],
        names,
        range(ladder.seeds),
    )


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
