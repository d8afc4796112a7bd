"""Where the run folder and the store lie."""

import os
from pathlib import Path

from splitray.config import Config
from splitray.errors import UserError
from splitray.storage.folder import without_query


def places(config: Config, run_dir: str | None = None, store: str | None = None) -> tuple[str, str]:
    """Addresses of the run folder and the store, as given, else from the config, else by its name.

    Under `ray job submit --working-dir` the current folder is a copy that vanishes with the job, so a relative run
    folder is anchored at ~/splitray (or SPLITRAY_HOME) there.
    """
    run = run_dir or config.run_dir or f"runs/{config.name}"
    store = store or config.store or _beside(run)
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        home = Path(os.environ.get("SPLITRAY_HOME") or Path.home() / "splitray")
        run, store = (p if "://" in p else str(home / p) for p in (run, store))
    return run, store


def _beside(run: str) -> str:
    """The default store: a folder `store` beside the run folder, with the same storage options."""
    remote = "://" in run
    path, mark, query = run.partition("?") if remote else (run, "", "")
    inside = without_query(path).partition("://")[2] if remote else path  # bucket/runs/NAME, or a local path
    if not inside.strip("/") or (remote and "/" not in inside.rstrip("/")):
        raise UserError(
            f"--run-dir {without_query(run)} is the root of a bucket or disk, with no place for the store beside it: "
            "give a folder below, or `store` in the config"
        )
    parent, slash, _ = path.rstrip("/").rpartition("/")
    return f"{parent}{slash}store{mark}{query}"
