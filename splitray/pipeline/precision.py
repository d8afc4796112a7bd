"""The precision of a run: as configured, or what `auto` means for its folder and its store."""

import logging
from collections.abc import Mapping

from splitray.config import Config
from splitray.errors import CorruptError, StageError
from splitray.executor.machine import cpu_model
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.tree import Tree
from splitray.storage.checksum import Schema
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.precision import PRECISIONS, PrecisionChoice, recorded
from splitray.units import human

_log = logging.getLogger(__name__)

# That of the first release names no schema: it is schema 1, has the same field, and is read as it is.
PRECISION = Schema("precision", 2)
_FILE = "precision.json"


def of_folder(run: Folder) -> PrecisionChoice | None:
    """What a run folder records; None where it records nothing.

    A run goes on in the precision that it began with, on whatever machine.

    Raises:
        CorruptError: the record is damaged.
    """
    if not run.exists(_FILE):
        return None
    try:
        precision = run.read_checksummed(_FILE, PRECISION).get("precision")
        if precision not in PRECISIONS:
            raise CorruptError(f"{run.uri}/{_FILE} names the precision {precision!r}")
    except CorruptError as error:
        raise CorruptError(f"{error}; delete it, and the precision is chosen again") from error
    return PrecisionChoice(precision, "this run began with it")


def of_store(config: Config, corpus: CorpusFacts, store: Store, machine: str | None) -> PrecisionChoice | None:
    """What `auto` means for a store: its choice for the kind of machine, else what it holds of the run's ladder.

    Stores that are older than such choices may hold a ladder; one in another precision would be of no use.

    Args:
        machine: None asks only what the store holds.
    """
    if machine is not None and (choice := recorded(store, machine)) is not None:
        return choice
    tokens = held_tokens(config, corpus, store)
    most = max(tokens, key=tokens.__getitem__)
    return PrecisionChoice(most, "the store holds segments of this run in it") if tokens[most] else None


def held_tokens(config: Config, corpus: CorpusFacts, store: Store) -> dict[str, int]:
    """By precision, the tokens of the run's ladder that a store holds."""
    return {p: Tree(Programme(config, corpus, p), store).ladder().reused for p in PRECISIONS}


def assumed(config: Config, corpus: CorpusFacts | None, store: Store, run: Folder) -> PrecisionChoice | None:
    """What a start here would choose without measuring; None where it would measure. Asks no cluster."""
    if config.training.precision != "auto":
        return PrecisionChoice(config.training.precision, "configured")
    if (choice := of_folder(run)) is not None:
        return choice
    if config.resources.accelerator == "gpu":
        return PrecisionChoice("bf16", "GPUs train in bf16")
    return of_store(config, corpus, store, cpu_model()) if corpus is not None else None


def keep(run: Folder, choice: PrecisionChoice) -> PrecisionChoice:
    """Record a choice in the run folder, where the first writer wins; what stands there afterwards."""
    run.create_json(_FILE, PRECISION.close(choice.plain()))
    stands = of_folder(run)
    assert stands is not None, _FILE
    return choice if stands.precision == choice.precision else stands


def check_kept(run: Folder, precision: str) -> None:
    """Ask the run folder again before a stage trains: on an object store two starts at once can both have written.

    Raises:
        StageError: the folder records another precision than this start trains in.
    """
    stands = of_folder(run)
    if stands is not None and stands.precision != precision:
        raise StageError(
            f"{run.uri}/{_FILE} says {stands.precision} now, and this start trains in {precision}: another start wrote "
            "it meanwhile. Start again, and this one continues in the same precision"
        )


def say(choice: PrecisionChoice, tokens: Mapping[str, int], automatic: bool) -> None:
    """Log the precision, and what the store holds of the run's ladder in the other one.

    Args:
        tokens: of the ladder that the store holds, by precision; see `held_tokens`.
        automatic: whether `auto` is configured.
    """
    if automatic:
        _log.info("precision %s: %s", choice.precision, choice.why)
    for other, held in tokens.items():
        if other != choice.precision and held > tokens[choice.precision]:
            level = logging.WARNING if automatic else logging.INFO
            _log.log(
                level,
                "the store holds %s tokens of this run's ladder in %s, and %s in %s: segments in %s are not reused "
                "with training.precision = %s",
                human(held),
                other,
                human(tokens[choice.precision]),
                choice.precision,
                other,
                choice.precision,
            )
