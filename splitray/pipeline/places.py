"""Where a run and its store lie: addresses from the config, an argument or the defaults."""

import os
from typing import NamedTuple

from splitray.config import Runnable
from splitray.errors import UserError
from splitray.storage.address import Address

HOME = "SPLITRAY_HOME"


class Places(NamedTuple):
    """Addresses of the run folder and the store, absolute, with logins and options: not for logs."""

    run: str
    store: str


def places(config: Runnable, run_dir: str | None = None, store: str | None = None) -> Places:
    """Where a run and its store lie.

    Args:
        run_dir: goes before `run_dir` of the config. Without both it is `runs/NAME`.
        store: goes before `store` of the config. Without both the store lies beside the run folder, with the same
            storage options.

    Raises:
        UserError: an address names no place, or there is none beside the run folder.
    """
    base = _base()
    run = Address.parse(run_dir or config.run_dir or f"runs/{config.name}", base)
    named = store or config.store
    return Places(run.full, (Address.parse(named, base) if named else _beside(run)).full)


def _base() -> Address | None:
    """What relative paths are relative to: None for the current folder.

    Under `ray job submit --working-dir` the current folder is a copy that vanishes with the job, so there it is
    ~/splitray, or what SPLITRAY_HOME names.
    """
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return None
    home = os.environ.get(HOME)
    try:
        return Address.parse(home or "~/splitray")
    except UserError as error:
        raise UserError(f"{HOME}: {error}") from None


def _beside(run: Address) -> Address:
    if run.parent is None:
        raise UserError(
            f"--run-dir {run.uri} is the root of a bucket or disk, with no place for the store beside it: "
            "give a folder below, or `store` in the config"
        )
    return run.parent / "store"
