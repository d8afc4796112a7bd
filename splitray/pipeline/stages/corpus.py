"""Stage corpus: text to token shards by domain."""

import logging

from splitray.corpus import build_corpus
from splitray.corpus.build import corpus_key
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.executor.waiting import waiting_said
from splitray.pipeline.job import Job
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.results.counts import DomainCounts
from splitray.results.stages import CorpusResult
from splitray.units import human

_log = logging.getLogger(__name__)


def run_corpus(job: Job) -> CorpusResult:
    """Build the corpus, or find it in the store."""
    if job.run.done("corpus") is not None:
        before = job.run.result(CorpusResult)
        key = corpus_key(job.config.corpus, job.config.seed, list_sources(job.config.corpus)[0])
        if key != before.key:
            raise UserError(
                f"the store lost this run's corpus {before.key}, and its sources, or splitray, have "
                f"changed since it was built (they make {key} now): restore them, or give another --run-dir"
            )
    with waiting_said("the corpus"):
        corpus = build_corpus(job.config.corpus, job.config.seed, job.store)
    Programme(job.config, CorpusFacts.of(corpus), "fp32").check_domains()  # no precision changes what it says
    domains = tuple(DomainCounts.of(name, corpus.counts) for name in corpus.domains)
    for domain in domains:
        _log.info(f"   {domain.name}: {domain.train.documents} documents, {human(domain.train.tokens)} tokens")
    return CorpusResult(corpus.key, domains)
