"""Stages filter and corpora: the topic's filter, its cells, and the corpus by every tokenizer."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from splitray.corpus import CorpusSettings, build_corpus
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.evaluate.exams import Exam
from splitray.executor.waiting import waiting_said
from splitray.pipeline.study.job import CELLS, FILTERED, StudyJob
from splitray.pipeline.study.programme import OWN, tokenizer_of
from splitray.pipeline.study.settings import StudyConfig
from splitray.results.counts import DomainCounts
from splitray.results.study_stages import ArmText, CorporaResult, FilterFacts, FilterResult, StudyCorpus
from splitray.study.apply import Filtered, apply_filter
from splitray.study.cells import COLUMN, label
from splitray.study.contamination import ExamIndex
from splitray.study.examples import Labelled, read_examples
from splitray.study.filter import DomainFilter
from splitray.units import human

_log = logging.getLogger(__name__)


def run_filter(job: StudyJob) -> FilterResult:
    """Fit the topic's filter, score the corpus without the exams' text, and label every document with its cell."""
    from splitray.corpus.ray_tasks import Engine, own_context

    config, exams = job.config, [exam for exam, _ in job.exams]
    check_exams(config)
    with waiting_said("the filter"), own_context():
        engine = Engine(config.corpus)
        labelled = read_examples(config.topic.examples, config.corpus, engine)
        topic = fitted(config, labelled, exams)
        wanted = None if config.topic.megabytes is None else 1e6 * config.topic.megabytes
        target = job.run.folder / FILTERED
        found = apply_filter(topic, config.corpus, target, exams, wanted, engine)
        check_contaminated(found, config.topic.max_contaminated)
        names = [name.removesuffix(".parquet") for name in (target / "scored").names()]
        job.run.folder.delete(CELLS)  # of an earlier start, which may have been cut differently
        counts, place = label(target, job.run.folder / CELLS, names, config.corpus.validation_share, engine)
    report = topic.report
    return FilterResult(
        FilterFacts(
            config.topic.filter.classifier,
            topic.threshold,
            report.fitted,
            report.held_out,
            report.topic,
            report.precision,
            report.recall,
            report.error,
            report.contaminated,
        ),
        found.documents,
        found.bytes,
        labelled.share,
        found.mean,
        {name: ArmText(arm.documents, arm.bytes, arm.threshold) for name, arm in found.arms.items()},
        found.contaminated,
        found.skipped,
        counts,
        place,
        tuple(taken for _, taken in job.exams),
    )


def fitted(config: StudyConfig, labelled: Labelled, exams: Sequence[Exam]) -> DomainFilter:
    """The topic's filter; its probabilities are those of the corpus where all of it is labelled."""
    settings = config.topic.filter
    if settings.share is None and labelled.share is not None:
        settings = settings.model_copy(update={"share": labelled.share})
    topic = DomainFilter.fit(labelled.examples, settings, config.seed, ExamIndex.build(exams) if exams else None)
    report = topic.report
    _log.info(
        f"   filter: precision {report.precision:.3f} and recall {report.recall:.3f} on {report.held_out:,} held-out "
        f"examples, calibration error {report.error:.3f}"
    )
    return topic


def check_exams(config: StudyConfig) -> None:
    """Refuse an exam whose file is one of the corpus's.

    Raises:
        UserError: it names the exam.
    """
    sources = {str(Path(file.root, file.path).resolve()) for file in list_sources(config.corpus)[0]}
    for place, exam in enumerate(config.measure.exams):
        if str(Path(exam.file).resolve()) in sources:
            raise UserError(
                f"measure.exams.{place}: {exam.file} is one of corpus.sources, so that models would be trained on the "
                "exam: take it out of the sources"
            )


def check_contaminated(found: Filtered, most: float) -> None:
    """Refuse a corpus that holds the exams, and not only a leak here and there.

    Raises:
        UserError: with the share of its documents.
    """
    leaked = found.contaminated.get("documents", 0)
    share = leaked / (found.documents + leaked)
    if leaked:
        _log.info(f"   {leaked:,} documents ({share:.3%}) hold questions of the exams and are left out")
    if share > most:
        raise UserError(
            f"{leaked:,} of {found.documents + leaked:,} documents ({share:.1%}) hold questions of the exams, and "
            f"topic.max_contaminated is {most:g}: the exams are part of the corpus. Take them out of the sources, use "
            "other exams, or raise that setting"
        )


def run_corpora(job: StudyJob) -> CorporaResult:
    """Build the corpus of the cells for every tokenizer, or find it in the store."""
    config, place = job.config, job.run.result(FilterResult).joined
    made = []
    for tokenizer in tokenizers(config):
        settings = cells_corpus(config, (job.run.folder / CELLS).address, len(set(place.values())), tokenizer)
        with waiting_said("the corpus"):
            corpus = build_corpus(settings, config.seed, job.store)
        cells = tuple(DomainCounts.of(name, corpus.counts) for name in corpus.domains)
        check_long_enough({c.name: c.train.tokens for c in cells}, config.training.sequence_length)
        for cell in cells:
            _log.info(f"   {cell.name}: {cell.train.documents} documents, {human(cell.train.tokens)} tokens")
        made.append(StudyCorpus(tokenizer, corpus.key, cells))
    return CorporaResult(tuple(made))


def tokenizers(config: StudyConfig) -> list[str]:
    """The tokenizers of a study's models, each once; see `Base.tokenizer`."""
    own = [] if config.own is None else [OWN]
    return list(dict.fromkeys([*own, *(tokenizer_of(given.path, given.tokenizer) for given in config.given)]))


def cells_corpus(config: StudyConfig, cells: str, count: int, tokenizer: str) -> CorpusSettings:
    """The settings of the corpus whose domains are the cells.

    Args:
        cells: address of the labelled documents. count: of the cells.
    """
    settings = config.corpus.tokenizer
    if tokenizer != OWN:
        settings = settings.model_copy(update={"source": tokenizer})
    columns = {"text_column": "text", "id_column": "document", "group_column": "group", "domain_column": COLUMN}
    files = {"sources": [cells], "format": "parquet", "domains": count, "tokenizer": settings}
    return config.corpus.model_copy(update={**columns, **files})


def check_long_enough(tokens: Mapping[str, int], length: int) -> None:
    """Refuse a cell that has less training text than one sequence.

    Raises:
        UserError: it names the cell.
    """
    for cell, count in tokens.items():
        if count <= length:
            raise UserError(
                f"the cell {cell} of the corpus has {count:,} training tokens, and training.sequence_length is "
                f"{length}: a sequence takes one token more. Give more text, or shorten the sequence"
            )
