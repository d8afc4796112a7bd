"""`splitray dry-run`: the tree that a run would grow, and what it would cost."""

import argparse

from rich.console import Console

from splitray.cli.command import Command
from splitray.cli.options import add_config, config_of, source_of
from splitray.cli.terminal import terminal


def dry_run(options: argparse.Namespace) -> None:
    """Print the dry run of the configuration that the arguments choose."""
    from splitray.api import dry_run

    console = terminal()
    _say(console, source_of(options))
    result = dry_run(config_of(options), run_dir=options.run_dir)
    console.print(result)
    result.check()


def _say(console: Console, line: str | None) -> None:
    if line is not None:
        console.print(line, markup=False)


COMMAND = Command(
    "Print the tree that a run would grow, and what it would cost. Needs no data and no cluster.", add_config, dry_run
)
main = COMMAND.main
