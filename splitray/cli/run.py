"""`splitray run` and `python jobs/split.py`: arguments, signals, and what a person sees at the end."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from rich.console import Console

from splitray.cli.command import Command
from splitray.cli.dry_run import dry_run
from splitray.cli.options import add_config, add_log_format, add_stages, config_of, source_of
from splitray.cli.signals import Signals
from splitray.cli.terminal import terminal
from splitray.config import Config
from splitray.executor.access import listen_on_loopback
from splitray.pipeline.display import shown
from splitray.pipeline.logs import foreign_errors
from splitray.pipeline.outlook import effort_after
from splitray.pipeline.places import places
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.pipeline.start import start
from splitray.runtime.quiet import environment
from splitray.storage.folder import Folder

if TYPE_CHECKING:
    from splitray.pipeline.job import Job

_log = logging.getLogger(__name__)

# read by C++ libraries when they are first used; errors come back as exceptions, so their lines add nothing
_QUIET = {"GRPC_VERBOSITY": "NONE", "GLOG_minloglevel": "3"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_log_format(parser)
    add_stages(parser, STAGES, Config)


def _run(options: argparse.Namespace) -> None:
    if options.dry_run:
        return dry_run(options)
    console = terminal()
    structured = options.log_format == "json"
    run = carry_out(options, console, options.until, structured=structured)
    if options.until == STAGES[-1] and not structured:
        _show_end(run, console)


def carry_out(
    options: argparse.Namespace,
    console: Console,
    until: str,
    then: Callable[["Job"], object] | None = None,
    structured: bool = False,
) -> RunFolder:
    """Do what the run of the arguments lacks, with its log on a console; its run folder.

    Args:
        until: the last stage.
        then: what is done after it; see `splitray.pipeline.start.start`.
        structured: whether the log has a JSON object a line.
    """
    with shown(console, structured) as log:
        config = config_of(options)
        listen_on_loopback()
        run_dir, store = places(config, options.run_dir)
        if (source := source_of(options)) is not None:
            _log.info(source)
        run = RunFolder(Folder(run_dir), config)
        log.follow(run.event)
        log.foresee(cache(lambda stage: effort_after(config, stage, until)))
        with Signals() as signals, others_silent():
            start(run, store, until, partial(watched, signals), then)
    return run


def watched(signals: Signals, work: Callable[[], object], stop: Callable[[], None]) -> None:
    """`Signals.run`; Ray's logger, which has its handler since Ray was imported, comes out as lines of ours."""
    with foreign_errors("ray"):
        signals.run(work, stop)


@contextmanager
def others_silent() -> Iterator[None]:
    """Other libraries of this process write nothing but errors, and those as lines of ours."""
    with environment(**_QUIET), foreign_errors("root"), warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


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
