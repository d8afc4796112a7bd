"""Stage exams: base, unsplit model, specialists and their mixture take the exams that `evaluate.exams` names."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from splitray.pipeline.exams import asked_exams
from splitray.pipeline.job import Job
from splitray.results.evaluation import UNSPLIT
from splitray.results.exams import ExamsResult
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)


def run_exams(job: Job) -> ExamsResult:
    """Grade every model of the run. It is done in this process, on its GPU if it has one."""
    import torch

    from splitray.evaluate.exams.takers import examine
    from splitray.evaluate.mixture import Mixture, alone, load_mixture

    read = asked_exams(job.config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mixture = load_mixture(job.run.folder.address, device)
    takers = {"mixture": mixture, **alone(mixture)}
    unsplit = _unsplit(job)
    if unsplit is not None:
        takers[UNSPLIT] = Mixture({UNSPLIT: unsplit.to(device)}, mixture.encoder, mixture.max_length)
    scores = examine(takers, [exam for exam, _ in read])
    for exam, _ in read:
        own = [f"{s.taker} {s.accuracy.value:.3f}" for s in scores if s.exam == exam.name]
        _log.info("   %s: accuracy of %s; guessing has %.3f", exam.name, ", ".join(own), exam.chance)
    return ExamsResult(tuple(taken for _, taken in read), scores)


def _unsplit(job: Job) -> Any:
    """The unsplit model at the whole budget, if the run has trained it; a causal LM."""
    from splitray.export.huggingface import export
    from splitray.training.folder import load_exported

    split = job.programme.baselines().get(UNSPLIT)
    if split is None:
        return None
    key = job.programme.compared(split)[0].target.key
    with tempfile.TemporaryDirectory(prefix="splitray-unsplit-") as folder:
        export(job.store, key, job.corpus.tokenizer_path(), Folder(folder), {})
        return load_exported(Path(folder))
