"""`splitray study` and `python jobs/study.py`: does filtering for a domain pay, at which size and compute?"""

import argparse
from functools import partial

from splitray.cli.command import Command
from splitray.cli.options import add_config, add_log_format, add_stages
from splitray.cli.run import others_silent, watched
from splitray.cli.signals import Signals
from splitray.cli.terminal import terminal
from splitray.executor.access import listen_on_loopback
from splitray.pipeline.display import shown
from splitray.pipeline.places import places
from splitray.pipeline.study.settings import STUDY_DEMO, StudyConfig, load_study
from splitray.results.stages import STUDY_STAGES, ReportResult
from splitray.storage.folder import Folder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_log_format(parser)
    add_stages(parser, STUDY_STAGES, StudyConfig)


def _run(options: argparse.Namespace) -> None:
    from splitray.pipeline.study.job import StudyFolder
    from splitray.pipeline.study.runner import start

    console, demo = terminal(), options.config is None
    config = load_study(STUDY_DEMO if demo else options.config, options.set)
    run_dir, store = places(config, options.run_dir)
    if options.dry_run:
        from splitray.pipeline.study.dry_run import foresee_study

        result = foresee_study(config, run_dir, store)
        console.print(result)
        return result.check()
    structured = options.log_format == "json"
    with shown(console, structured) as log:
        listen_on_loopback()
        run = StudyFolder(Folder(run_dir), config)
        log.follow(run.event)
        with Signals() as signals, others_silent():
            start(run, store, options.until, partial(watched, signals))
    if options.until == STUDY_STAGES[-1] and not structured:
        console.print(f"report: {run.folder.uri}/{run.result(ReportResult).path}", markup=False, soft_wrap=True)


COMMAND = Command(
    "Continue models of several sizes on text filtered for a domain, and on the text that was not filtered; say what "
    "pays.",
    _add_arguments,
    _run,
    "Without --config the study's demo is run. The same command continues a study that was stopped.",
)
main = COMMAND.main
