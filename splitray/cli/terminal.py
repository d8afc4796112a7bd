"""The console that commands print to."""

import sys

from rich.console import Console

LOG_WIDTH = 2000  # columns of a log file or a pipe, whose lines are not wrapped; a table takes what it needs


def terminal() -> Console:
    """As wide as the terminal; where standard output is none, so wide that no line is wrapped."""
    stdout = sys.stdout
    return Console(highlight=False, width=None if stdout is not None and stdout.isatty() else LOG_WIDTH)
