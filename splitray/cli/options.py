"""The arguments that choose a configuration, for every command that takes one."""

import argparse

from splitray.config import DEMO, Config, load


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
