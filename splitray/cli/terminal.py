"""The console that commands print to."""

import sys

from rich.console import Console

_LOG_WIDTH = 140  # columns of a log file or a pipe


def terminal() -> Console:
    """As wide as the terminal, and of a fixed width where standard output is none."""
    stdout = sys.stdout
    return Console(highlight=False, width=None if stdout is not None and stdout.isatty() else _LOG_WIDTH)
