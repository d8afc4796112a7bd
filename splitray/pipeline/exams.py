"""The exams that a run's configuration names, read before anything is paid for."""

from collections.abc import Sequence
from pathlib import Path

from splitray.config import Config
from splitray.errors import UserError
from splitray.evaluate.exams.questions import Exam, read_exam
from splitray.evaluate.settings import ExamSettings
from splitray.pipeline.run_folder import RunFolder
from splitray.results.exams import ExamsResult, ExamTaken
from splitray.storage.checksum import sha256_file


def asked_exams(config: Config) -> list[tuple[Exam, ExamTaken]]:
    """Read every exam, with what is recorded of it.

    Raises:
        UserError: an exam cannot be read, or two have one name.
    """
    return read_exams(config.evaluate.exams, "evaluate.exams")


def read_exams(exams: Sequence[ExamSettings], where: str) -> list[tuple[Exam, ExamTaken]]:
    """The same of some exams; `where` is the field of the configuration that names them."""
    from splitray.evaluate.exams.scoring import detectable

    read: list[tuple[Exam, ExamTaken]] = []
    for place, asked in enumerate(exams):
        path = Path(asked.file)
        try:
            exam = read_exam(path, asked.shots, asked.questions)
        except UserError as error:
            raise UserError(f"{where}.{place}: {error}") from None
        taken = ExamTaken(
            exam.name,
            asked.file,
            sha256_file(path),
            len(exam.questions),
            asked.shots,
            exam.chance,
            detectable(exam),
        )
        if any(exam.name == other.name for other, _ in read):
            raise UserError(f"{where}.{place}: two exams are named {exam.name!r}: rename a file")
        read.append((exam, taken))
    return read


def stands(run: RunFolder, stage: str) -> bool:
    """Whether a stage has a record, which for exams is one of the exams that the configuration names now."""
    record = run.done(stage)
    if record is None or not isinstance(record.result, ExamsResult):
        return record is not None
    return record.result.exams == tuple(taken for _, taken in asked_exams(run.config))
