"""`splitray settings`: every field of the configuration, its default and what it means."""

import argparse

from splitray.cli.command import Command
from splitray.config import manual


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("section", nargs="?", default="", help="only this section or field, such as training")


def _run(options: argparse.Namespace) -> None:
    print(manual(options.section))


COMMAND = Command("Print every field of the configuration: its default, and what it means.", _add_arguments, _run)
main = COMMAND.main
