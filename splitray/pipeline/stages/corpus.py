"""Stage corpus: text to token shards by domain."""

import logging
from typing import Any

from splitray.corpus import build_corpus
from splitray.corpus.build import corpus_key
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.pipeline.job import Job
from splitray.units import human

_log = logging.getLogger(__name__)


def corpus(job: Job) -> dict[str, Any]:
    """Build the corpus, or find it in the store."""
    if (before := job.run.done("corpus")) is not None:
        key = corpus_key(job.config.corpus, job.config.seed, list_sources(job.config.corpus)[0])
        if key != before["result"]["key"]:
            raise UserError(
                f"the store lost this run's corpus {before['result']['key']}, and its sources, or splitray, have "
                f"changed since it was built (they make {key} now): restore them, or give another --run-dir"
            )
    corpus = build_corpus(job.config.corpus, job.config.seed, job.store)
    domains = []
    for name in corpus.domains:
        counts = {split: corpus.counts(name, split) for split in ("train", "validation")}
        plain = {s: {k: c[k] for k in ("tokens", "documents", "bytes")} for s, c in counts.items()}
        domains.append({"name": name, **plain})
        _log.info(f"   {name}: {plain['train']['documents']} documents, {human(plain['train']['tokens'])} tokens")
        if plain["validation"]["documents"] == 0:
            raise UserError(
                f"domain {name} has no validation document: raise corpus.validation_share "
                f"(now {job.config.corpus.validation_share}) or lower corpus.domains"
            )
    return {"key": corpus.key, "domains": domains}
