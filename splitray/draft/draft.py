"""A first configuration for a folder of text, from what it holds and how long the run may take."""

import logging
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
_STEP = 2**0.25  # between budgets that are tried
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
    folder: str | Path, minutes: float = 30.0, domains: int | None = None, text_column: str | None = None
) -> Draft:
    """Look at a folder of text and propose a configuration; see `splitray.draft_config`."""
    if not minutes > 0:
        raise UserError(f"--minutes {minutes:g}: give how long the run may take, more than 0")
    check_folder(folder)
    source = source_of(folder)
    base: dict[str, Any] = {"sources": [source], "domains": domains or 1}
    found = survey(CorpusSettings(**base), text_column)
    kinds = ", ".join(counted(count, f"{kind} file") for kind, count in found.files.items())
    about = "" if found.whole else "about "
    _log.info(f"{kinds}: {about}{found.documents:,} documents, {about}{found.text_bytes / 1e6:,.1f} MB of text")
    if found.columns is not None:
        base["text_column"] = found.columns.text
    speed_guess, cores = minutes * 60 * _ASSUMED / _RUNS, cpus()
    entries = numbers.vocabulary(min(speed_guess * cores, found.text_bytes / 3))
    per_token = bytes_per_token(found.texts, TokenizerSettings(vocabulary=entries))
    most_domains = max(2, min(len(found.texts) // 40, int(minutes * 60 * cores / _DOMAIN_SECONDS)))
    grouping = group(found.texts, CorpusSettings(**base), 0, domains, most_domains)
    _log.info(f"{counted(grouping.domains, 'domain')}; a token is {per_token:.2f} bytes of text")
    share = _validation_share(found, grouping, per_token)
    tokens = found.text_bytes / per_token * (1 - share)
    most = int(min(1.0, grouping.domains * grouping.smallest) * _MARGIN * tokens)
    needed = numbers.least_budget(grouping.domains)
    if most < needed or found.rows * share * grouping.smallest < 2:
        raise UserError(_too_little(folder, found, needed / max(most, 1), grouping, domains))
    held_out = int(found.text_bytes / per_token * share * grouping.smallest)
    corpus = {**base, "domains": grouping.domains, "validation_share": round(share, 3)}
    corpus["tokenizer"] = {"vocabulary": entries}
    place = numbers.Place(
        _name(source), corpus, grouping.domains, entries, min(_MEASURED, max(1024, 1024 * (held_out // 1024)))
    )
    guess = numbers.config_of(place, max(needed, min(most, speed_guess * cores)))
    speed = measure_speed((guess.ladder.shapes[0], guess.model), guess.training, entries)
    config, foretold = _largest(place, needed, most, minutes, found, speed)
    mean = foretold.tokens * speed.busy / foretold.training / speed.workers
    config = numbers.config_of(place, config.budget, int(float(f"{mean:.2g}")))
    return Draft(config, found, grouping, int(tokens), most, per_token, speed, foretold)


def _validation_share(found: Survey, grouping: Grouping, per_token: float) -> float:
    """Enough that the smallest domain has text to measure a loss on, and rows to tell chance from difference."""
    tokens = found.text_bytes / per_token * grouping.smallest
    needed = max(_MEASURED / max(tokens, 1.0), _HELD_OUT / max(found.rows * grouping.smallest, 1.0))
    return min(max(needed, _VALIDATION[0]), _VALIDATION[1])


def _too_little(folder: str | Path, found: Survey, times: float, grouping: Grouping, wanted: int | None) -> str:
    megabytes = found.text_bytes / 1e6
    enough = f"about {max(times, 1.5) * megabytes:.2g} MB in {10 * grouping.domains * 4} documents or more"
    fewer = f", or fewer --domains than {wanted}" if wanted is not None and wanted > 2 else ""
    return (
        f"{folder} holds {megabytes:.2g} MB of text in {counted(found.rows, 'row')} or files, too little for "
        f"{counted(grouping.domains, 'domain')}: {enough} are needed{fewer}"
    )


def _largest(
    place: numbers.Place, needed: int, most: int, minutes: float, found: Survey, speed: Speed
) -> tuple[Config, Foretold]:
    """The largest budget whose run takes no longer than it may, and that the text allows."""
    budgets = [float(needed)]
    while budgets[-1] * _STEP < most:
        budgets.append(budgets[-1] * _STEP)
    if most > budgets[-1]:
        budgets.append(float(most))
    low, high = 0, len(budgets)
    while high - low > 1:  # times grow with the budget
        middle = (low + high) // 2
        if foretell(numbers.config_of(place, budgets[middle]), found, speed).seconds <= 60 * minutes:
            low = middle
        else:
            high = middle
    config = numbers.config_of(place, budgets[low])
    foretold = foretell(config, found, speed)
    if foretold.seconds > 60 * minutes:
        busy = f" (other programs make it {speed.busy:.1f} times as long now)" if speed.busy >= BUSY else ""
        raise UserError(
            f"--minutes {minutes:g}: the smallest run, of {human(config.budget)} tokens, takes about "
            f"{duration(foretold.seconds)} on this machine{busy}; give more minutes"
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
