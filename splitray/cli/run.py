"""`python jobs/split.py`: arguments, exit codes, and what a person sees at the end."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from splitray.config import Config, load, manual
from splitray.errors import SplitrayError, UserError
from splitray.pipeline.logs import logged_to
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.storage.folder import Folder, without_query

_log = logging.getLogger(__name__)

DONE, FAILED, WRONG_INPUT = 0, 1, 2


class Stopped(BaseException):
    """SIGTERM: `ray job stop`, a preempted driver, or an operator."""


class _Settings(argparse.Action):
    """`--settings` prints the manual and ends, as `--help` does; `--config` is not asked for then."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        print(manual())
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """The main job. Returns the exit code: 0 done, 1 a stage failed, 2 the user's input is wrong."""
    parser = argparse.ArgumentParser(description="From a corpus and a token budget to proven specialist models.")
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one field")
    parser.add_argument("--run-dir", metavar="PATH_OR_URI", help="run folder; default runs/NAME")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--dry-run", action="store_true", help="print the tree and its cost; needs no data, no cluster")
    parser.add_argument("--settings", action=_Settings, nargs=0, help="print every field of the configuration, and end")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    try:
        config = load(options.config, options.set)
        run_dir, store = places(config, options.run_dir)
        if options.dry_run:
            from splitray.pipeline.dry_run import show
            from splitray.pipeline.standing import Standing

            show(config, store, Standing.of(config, run_dir, store, console), console)
            return DONE
        return _run(config, run_dir, store, options.until, console)
    except UserError as error:
        print(f"splitray: {error}", file=sys.stderr)
        return WRONG_INPUT
    except SplitrayError as error:
        print(f"splitray: {error}", file=sys.stderr)
        return FAILED
    except (Stopped, KeyboardInterrupt):
        print("splitray: stopped; the same command continues from what is published", file=sys.stderr)
        return FAILED


def places(config: Config, run_dir: str | None) -> tuple[str, str]:
    """Addresses of the run folder and the store.

    Under `ray job submit --working-dir` the current folder is a copy that vanishes with the job, so a relative run
    folder is anchored at ~/splitray (or SPLITRAY_HOME) there.
    """
    run = run_dir or config.run_dir or f"runs/{config.name}"
    store = config.store or _beside(run)
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


def _run(config: Config, run_dir: str, store: str, until: str, console: Console) -> int:
    with logged_to(lambda line: console.print(line, markup=False)):
        run = RunFolder(Folder(run_dir), config)
        with logged_to(lambda line: run.event("log", text=line)):
            _log.info("run folder %s, store %s", run.folder.uri, without_query(store))
            wanted = STAGES[: STAGES.index(until) + 1]
            if any(run.done(stage) is None for stage in wanted):
                _stages(run, store, until)
            else:
                _log.info("every stage up to %s is done: nothing to train", until)
    if until == STAGES[-1]:
        _tell_end(run, console)
    return DONE


def _stages(run: RunFolder, store: str, until: str) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read once, when Ray is first imported
    logging.getLogger("ray").setLevel(logging.WARNING)
    from splitray.executor.connect import connect
    from splitray.pipeline.job import Job
    from splitray.pipeline.runner import go
    from splitray.storage.store import Store

    connect()
    _check_router(run, until)
    signal.signal(signal.SIGTERM, _stop)
    job = Job(run, Store(store))
    try:
        go(job, until)
    except (Stopped, KeyboardInterrupt):
        job.stop()
        raise
    finally:
        run.flush()


def _check_router(run: RunFolder, until: str) -> None:
    """Load the router's embedder before anything is paid for: the evaluation, which comes last, needs it here."""
    evaluates = STAGES.index("evaluate") <= STAGES.index(until) and run.done("evaluate") is None
    if evaluates and run.config.corpus.embedder == "sentence-transformers":
        from splitray.corpus.embed import SentenceEmbedder

        SentenceEmbedder(run.config.corpus.sentence)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _tell_end(run: RunFolder, console: Console) -> None:
    from splitray.report import terminal
    from splitray.results.stages import ReportResult
    from splitray.results.summary import Summary

    console.print(terminal(Summary.parse(run.folder.read_checksummed("summary.json"))))
    console.print(f"report: {run.folder.uri}/{run.result(ReportResult).path}", markup=False)
