"""One run of a study, as its stages see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from splitray.config import parse_as
from splitray.corpus import Corpus
from splitray.evaluate.exams import Exam
from splitray.executor.precision import kind_of_machine, resolve_precision
from splitray.pipeline import precision
from splitray.pipeline.exams import read_exams
from splitray.pipeline.programme import CorpusFacts
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.session import Session
from splitray.pipeline.study.programme import OWN, StudyProgramme
from splitray.pipeline.study.settings import StudyConfig
from splitray.results.exams import ExamTaken
from splitray.results.stages import STUDY_RESULTS, STUDY_STAGES
from splitray.results.study_stages import CorporaResult, SweepResult
from splitray.training.settings import ModelShape, TrainingSettings

FILTERED, CELLS = "filter", "cells"  # folders of the run: what the filter writes, and documents with their cells


class StudyFolder(RunFolder[StudyConfig]):
    """A run folder of a study."""

    results = STUDY_RESULTS
    fits = ("analysis", "report")

    def _parse(self, text: bytes, where: str) -> StudyConfig:
        return parse_as(StudyConfig, text, where)

    def stages(self, until: str = STUDY_STAGES[-1]) -> tuple[str, ...]:
        return STUDY_STAGES[: STUDY_STAGES.index(until) + 1]


@dataclass
class StudyJob(Session[StudyConfig]):
    """What the stages of a study share."""

    @cached_property
    def exams(self) -> list[tuple[Exam, ExamTaken]]:
        """The exams, with what is recorded of each."""
        return read_exams(self.config.measure.exams, "measure.exams")

    @cached_property
    def opened(self) -> dict[str, Corpus]:
        """The corpora that stage corpora left in the store, by tokenizer."""
        return {c.tokenizer: Corpus.open(self.store, c.key) for c in self.run.result(CorporaResult).corpora}

    @property
    def corpora(self) -> Mapping[str, str]:
        return {corpus.content_hash: corpus.key for corpus in self.opened.values()}

    @cached_property
    def facts(self) -> dict[str, CorpusFacts]:
        return {tokenizer: CorpusFacts.of(corpus) for tokenizer, corpus in self.opened.items()}

    @cached_property
    def precision(self) -> str:
        """fp32 or bf16: as configured, else as the run began, or as measured now."""
        configured = self.config.training.precision
        if configured != "auto":
            return configured
        choice = precision.of_folder(self.run.folder)
        if choice is None:
            machine = None if self.use_gpu else kind_of_machine(self.config.training)
            shape, vocab = self._measured_shape()
            found = resolve_precision(self.store, shape, self.config.training, vocab, machine)
            choice = precision.keep(self.run.folder, found)
        return choice.precision

    def _measured_shape(self) -> tuple[ModelShape, int]:
        """The model that a measurement of precision trains: the largest of one's own, else a given one."""
        if (own := self.config.own) is not None:
            return own.shapes[-1], self.facts[OWN].vocab
        base = StudyProgramme(self.config, self.facts, "fp32").bases[-1]
        return base.shape, self.facts[base.tokenizer].vocab

    @cached_property
    def unswept(self) -> StudyProgramme:
        """The programme before learning rates are chosen."""
        return StudyProgramme(self.config, self.facts, self.precision)

    @cached_property
    def programme(self) -> StudyProgramme:
        """What this study trains, at the learning rates that stage sweep chose."""
        return StudyProgramme(self.config, self.facts, self.precision, self.run.result(SweepResult).chosen)

    @property
    def training(self) -> TrainingSettings:
        return self.unswept.training

    @property
    def fewest(self) -> Mapping[str, int | None]:
        """All groups of a study are of `resources.base_workers`."""
        return dict.fromkeys(("base", "specialist"), self.config.resources.base_workers_min)

    @property
    def validation_tokens(self) -> int:
        return self.config.measure.validation_tokens

    @property
    def flops_per_token(self) -> Mapping[int, float]:
        return self.unswept.flops_per_token

    def flops(self, params: int, tokens: int) -> float | None:
        return self.unswept.flops(params, tokens)
