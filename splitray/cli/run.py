"""`splitray run` and `python jobs/split.py`: arguments, signals, and what a person sees at the end."""

import argparse
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console

from splitray.cli.command import Command
from splitray.cli.dry_run import dry_run
from splitray.cli.options import add_config, config_of, source_of
from splitray.cli.terminal import terminal
from splitray.config import manual
from splitray.errors import UserError, check_choice
from splitray.pipeline.logs import logged_to
from splitray.pipeline.places import places
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.pipeline.start import interruptible, start
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)

_STOPPED = "stopped; the same command continues from what is published"


class Stopped(KeyboardInterrupt):
    """SIGTERM: `ray job stop`, a preempted driver, or an operator."""


class _Settings(argparse.Action):
    """`--settings` prints the manual and ends, as `--help` does."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        print(manual())
        parser.exit()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    stages = ", ".join(STAGES)
    parser.add_argument("--until", type=_stage, default=STAGES[-1], metavar="STAGE", help=f"stop after it: {stages}")
    parser.add_argument("--dry-run", action="store_true", help="print the tree and its cost; needs no data, no cluster")
    parser.add_argument("--settings", action=_Settings, nargs=0, help="print every field of the configuration, and end")


def _stage(text: str) -> str:
    try:
        return check_choice("stage", text, STAGES)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _run(options: argparse.Namespace) -> None:
    if options.dry_run:
        return dry_run(options)
    console = terminal()
    config = config_of(options)
    run_dir, store = places(config, options.run_dir)
    with logged_to(lambda line: console.print(line, markup=False)):
        if (source := source_of(options)) is not None:
            _log.info(source)
        run = RunFolder(Folder(run_dir), config)
        with logged_to(lambda line: run.event("log", text=line)):
            logging.getLogger("ray").setLevel(logging.WARNING)
            try:
                with _sigterm_stops():
                    start(run, store, options.until, interruptible)
            except KeyboardInterrupt:
                raise Stopped(_STOPPED) from None
    if options.until == STAGES[-1]:
        _show_end(run, console)


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_end(run: RunFolder, console: Console) -> None:
    from splitray.report import terminal
    from splitray.results.stages import ReportResult
    from splitray.results.summary import Summary

    console.print(terminal(Summary.parse(run.folder.read_checksummed("summary.json"))))
    console.print(f"report: {run.folder.uri}/{run.result(ReportResult).path}", markup=False, soft_wrap=True)


COMMAND = Command(
    "From a corpus and a token budget to specialist models, the law of their losses and a report.",
    _add_arguments,
    _run,
    "Without --config the demo is run. The same command continues a run that was stopped.",
)
main = COMMAND.main
