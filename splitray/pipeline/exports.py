"""The models and the router in the run folder: which folder is for what."""

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from splitray.errors import CorruptError
from splitray.pipeline.job import Job
from splitray.results.folders import CARD, ROUTER


@dataclass(frozen=True)
class Card:
    """What is written beside an exported model as `splitray.json`: what it is, and what it is for.

    Args:
        pretrain_tokens: D. specialize_tokens: D', 0 for models of the mixture.
        domain: None for models of the mixture.
    """

    use: str
    pretrain_tokens: int
    specialize_tokens: int = 0
    domain: str | None = None


def trunk_card(tokens: int) -> Card:
    return Card("to continue training from: its learning rate has not been decayed; base/ is for use", tokens)


def base_card(tokens: int) -> Card:
    return Card("to use: its learning rate was decayed at the end; trunk/ is to continue training from", tokens)


def specialist_card(domain: str, pretrain_tokens: int, specialize_tokens: int) -> Card:
    use = "to use on texts of its domain: its learning rate was decayed at the end; router/ tells the domain of a text"
    return Card(use, pretrain_tokens, specialize_tokens, domain)


def export_model(job: Job, key: str, name: str, card: Card) -> str:
    """Write a published model to a folder of the run, as transformers reads it; the folder's name."""
    from splitray.export.huggingface import export

    plain = {k: v for k, v in vars(card).items() if v is not None}
    export(job.store, key, job.corpus.tokenizer_path(), job.run.folder / name, {"run": job.config.name, **plain})
    return name


def withdraw_others(job: Job, name: str, key: str | None) -> None:
    """Delete an exported model, left by an earlier plan or the first release, unless it is the segment `key`."""
    with contextlib.suppress(FileNotFoundError, CorruptError):
        if job.run.folder.read_json(f"{name}/{CARD}").get("key") == key:
            return
    job.run.folder.delete(name)


def export_router(job: Job) -> str:
    """Write the corpus's router to the run folder, and what a mixture's weights begin with; the folder's name."""
    from splitray.evaluate.mixture.prior import fit_prior
    from splitray.export import huggingface

    with tempfile.TemporaryDirectory(prefix="splitray-prior-") as made:
        fit_prior(job.corpus, job.config.evaluate.prefix_characters).save(Path(made))
        huggingface.export_router(job.corpus.router_path(), job.run.folder / ROUTER, job.corpus.key, Path(made))
    return ROUTER
