"""The arguments that choose a configuration, for every command that takes one."""

import argparse
from collections.abc import Sequence
from typing import Any

from splitray.config import DEMO, Config, load, manual
from splitray.errors import UserError, check_choice
from splitray.settings import Settings


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and `--run-dir`."""
    parser.add_argument("--config", metavar="FILE", help="YAML configuration (default: the demo's)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one field")
    parser.add_argument("--run-dir", metavar="PATH_OR_URI", help="run folder; default runs/NAME")


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Add `--log-format`."""
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="lines of the log for people, or one JSON each"
    )


def add_stages(parser: argparse.ArgumentParser, stages: Sequence[str], kind: type[Settings]) -> None:
    """Add `--until`, `--dry-run` and `--settings` of a job with these stages and this kind of configuration."""

    def stage(text: str) -> str:
        try:
            return check_choice("stage", text, stages)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    class Manual(argparse.Action):
        """`--settings` prints the manual and ends, as `--help` does."""

        def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
            print(manual(kind=kind))
            parser.exit()

    named = ", ".join(stages)
    parser.add_argument("--until", type=stage, default=stages[-1], metavar="STAGE", help=f"stop after it: {named}")
    parser.add_argument("--dry-run", action="store_true", help="print the tree and its cost; needs no data, no cluster")
    parser.add_argument("--settings", action=Manual, nargs=0, help="print every field of the configuration, and end")


def config_of(options: argparse.Namespace) -> Config:
    """The configuration that the arguments choose.

    Raises:
        UserError: it cannot be read.
    """
    return load(DEMO if options.config is None else options.config, options.set)


def source_of(options: argparse.Namespace) -> str | None:
    """What to say where no configuration was given."""
    if options.config is not None:
        return None
    return f"No --config is given: this is the demo ({DEMO})."
