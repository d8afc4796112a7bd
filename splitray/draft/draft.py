"""A first configuration for a folder of text, from what it holds and how long the run may take."""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitray.config import Config
from splitray.corpus.settings import CorpusSettings, TokenizerSettings
from splitray.corpus.survey import Survey, survey
from splitray.draft import numbers
from splitray.draft.cost import Foretold, foretell
from splitray.draft.grouping import Grouping, group
from splitray.draft.places import check_folder, source_of
from splitray.draft.speed import Speed, measure_speed
from splitray.draft.tokens import bytes_per_token
from splitray.errors import UserError
from splitray.executor.machine import cpus
from splitray.units import counted, duration, human

_log = logging.getLogger(__name__)

BUSY = 1.3  # times as long as with nothing beside it: worth a word
_VALIDATION = (0.05, 0.2)  # shares of the text that are held out: at least, and at most
_MEASURED = 16_384  # validation tokens of a domain that are asked for where the text has them
_HELD_OUT = 30  # rows of the smallest domain that are held out, where the text has them
_MARGIN = 0.85  # of the smallest domain's text: a sample tells its share, and near-duplicates are dropped
_ASSUMED = 3e4  # tokens a second of a worker, before it is measured: decides which models are measured
_RUNS = 16  # budgets that all the training of a run comes to
_BYTES = 3.0  # a token, before it is measured
_DOCUMENTS, _ROWS = 40, 2  # sampled documents of a domain, and held-out ones of the smallest, at least
_ROUNDED = 1024
_STEP = 2**0.25  # between budgets that are tried
_ROOM = 1.2  # times what the smallest run takes with nothing beside it: minutes that are worth a second try
_DOMAIN_SECONDS = 40.0  # of a run on one processor for each domain, whose worker must start and whose model is scored


@dataclass(frozen=True)
class Draft:
    """A configuration for a folder of text, and why it is so.

    Args:
        tokens: training tokens that the text has, estimated.
        most: the largest budget that reads no domain's text twice.
        bytes_per_token: with the vocabulary proposed.
        foretold: the time of the run.
    """

    config: Config
    survey: Survey
    grouping: Grouping
    tokens: int
    most: int
    bytes_per_token: float
    speed: Speed
    foretold: Foretold

    def yaml(self) -> str:
        """The configuration with a comment for every choice, as `splitray.load_config` reads it."""
        from splitray.draft.yaml_page import page

        return page(self)


def draft(
    folder: str | Path,
    minutes: float = 30.0,
    domains: int | None = None,
    text_column: str | None = None,
    speed: Speed | None = None,
) -> Draft:
    """Look at a folder of text and propose a configuration; see `splitray.draft_config`.

    Args:
        speed: of the machine; measured where it is None.
    """
    if not minutes > 0:
        raise UserError(f"minutes = {minutes:g}: give how long the run may take, more than 0")
    if domains is not None and domains < 1:
        raise UserError(f"domains = {domains}: give 1 or more")
    check_folder(folder)
    guess = minutes * 60 * cpus() * _ASSUMED / _RUNS
    text = _look(folder, minutes, domains, text_column, guess)
    if speed is None:
        like = numbers.config_of(text.place, max(text.least, min(text.most, guess)))
        speed = measure_speed((like.ladder.shapes[0], like.model), like.training, text.place.vocabulary)
    config, foretold = _largest(text, minutes, speed)
    mean = foretold.tokens * speed.busy / foretold.training / speed.workers
    config = numbers.config_of(text.place, config.budget, int(float(f"{mean:.2g}")))
    return Draft(config, text.survey, text.grouping, text.tokens, text.most, text.bytes_per_token, speed, foretold)


@dataclass(frozen=True)
class _Text:
    """What a folder holds, and between which budgets it can serve; the rest as in `Draft`."""

    place: numbers.Place
    survey: Survey
    grouping: Grouping
    bytes_per_token: float
    tokens: int
    least: int
    most: int


def _look(folder: str | Path, minutes: float, domains: int | None, text_column: str | None, guess: float) -> _Text:
    """Read, cluster and tokenize a sample.

    Args:
        guess: the budget that time may allow, which decides the vocabulary.
    """
    source = source_of(folder)
    corpus: dict[str, Any] = {"sources": [source], "domains": domains or 1}
    found = survey(CorpusSettings(**corpus), text_column)
    kinds = ", ".join(counted(count, f"{kind} file") for kind, count in found.files.items())
    about = "" if found.whole else "about "
    _log.info(f"{kinds}: {about}{found.documents:,} documents, {about}{found.text_bytes / 1e6:,.1f} MB of text")
    if found.columns is not None:
        corpus["text_column"] = found.columns.text
    entries = numbers.vocabulary(min(guess, found.text_bytes / _BYTES))
    per_token = bytes_per_token(found.texts, TokenizerSettings(vocabulary=entries))
    by_time, by_text = int(minutes * 60 * cpus() / _DOMAIN_SECONDS), len(found.texts) // _DOCUMENTS
    grouping = group(found.texts, CorpusSettings(**corpus), 0, domains, max(2, min(by_time, by_text)))
    if grouping is None:
        raise UserError(_too_little(folder, found, 2.0, domains or 2))
    _log.info(f"{counted(grouping.domains, 'domain')}; a token is {per_token:.2f} bytes of text")
    share = _validation_share(found, grouping, per_token)
    tokens = found.text_bytes / per_token * (1 - share)
    least, most = numbers.least_budget(grouping.domains), int(grouping.domains * grouping.smallest * _MARGIN * tokens)
    if most < least or found.rows * share * grouping.smallest < _ROWS:
        raise UserError(_too_little(folder, found, least / max(most, 1), grouping.domains))
    corpus |= {"domains": grouping.domains, "validation_share": round(share, 3), "tokenizer": {"vocabulary": entries}}
    held_out = int(found.text_bytes / per_token * share * grouping.smallest)
    scored = min(_MEASURED, max(_ROUNDED, held_out // _ROUNDED * _ROUNDED))
    place = numbers.Place(_name(source), corpus, grouping.domains, entries, scored)
    return _Text(place, found, grouping, per_token, int(tokens), least, most)


def _validation_share(found: Survey, grouping: Grouping, per_token: float) -> float:
    """Enough that the smallest domain has text to measure a loss on, and rows to tell chance from difference."""
    tokens = found.text_bytes / per_token * grouping.smallest
    needed = max(_MEASURED / max(tokens, 1.0), _HELD_OUT / max(found.rows * grouping.smallest, 1.0))
    return min(max(needed, _VALIDATION[0]), _VALIDATION[1])


def _too_little(folder: str | Path, found: Survey, times: float, domains: int) -> str:
    megabytes = found.text_bytes / 1e6
    fewer = ", or fewer --domains" if domains > 2 else ""
    return (
        f"{folder} holds {megabytes:.2g} MB of text in {counted(found.rows, 'document')}, too little for "
        f"{counted(domains, 'domain')}: give about {max(times, 1.5) * megabytes:.2g} MB in "
        f"{max(_DOCUMENTS * domains, found.rows):,} documents{fewer}"
    )


def _largest(text: _Text, minutes: float, speed: Speed) -> tuple[Config, Foretold]:
    """The largest budget whose run takes no longer than it may, and that the text allows."""
    budgets = [float(text.least)]
    while budgets[-1] * _STEP < text.most:
        budgets.append(budgets[-1] * _STEP)
    budgets.append(float(text.most))
    low, high = 0, len(budgets)
    while high - low > 1:  # times grow with the budget
        middle = (low + high) // 2
        if foretell(numbers.config_of(text.place, budgets[middle]), text.survey, speed).seconds <= 60 * minutes:
            low = middle
        else:
            high = middle
    config = numbers.config_of(text.place, budgets[low])
    foretold = foretell(config, text.survey, speed)
    if foretold.seconds > 60 * minutes:
        takes = f"the smallest run, of {human(config.budget)} tokens, takes about {duration(foretold.seconds)} here"
        alone = foretold.seconds / speed.busy
        if alone > 60 * minutes:
            domains = text.grouping.domains
            fewer = f", or fewer domains than the {domains} that were found (--domains)" if domains > 2 else ""
            now = f", {duration(alone)} without the other programs that run now" if speed.busy >= BUSY else ""
            raise UserError(
                f"minutes = {minutes:g}: {takes}{now}; give --minutes {math.ceil(_ROOM * alone / 60)} or more{fewer}"
            )
        _log.warning(
            f"{takes}, since other programs make it {speed.busy:.1f} times as long now; without them it is about "
            f"{duration(alone)}"
        )
    return config, foretold


def _name(source: str) -> str:
    """A name for the run that no run folder here has."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", source.rstrip("/").rpartition("/")[2])
    name = re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", plain) or "corpus"
    number = 1
    while Path("runs", name if number == 1 else f"{name}-{number}").exists():
        number += 1
    return name if number == 1 else f"{name}-{number}"
