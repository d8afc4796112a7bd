"""The arguments that choose a configuration, for every command that takes one."""

import argparse

from splitray.config import DEMO, Config, load
from splitray.storage.redact import refuse_secrets

_CURE = (
    "Put it into the environment (for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or the address into the "
    "config (run_dir, store, corpus.sources), in a file that only you can read"
)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and `--run-dir`."""
    parser.add_argument("--config", metavar="FILE", help="YAML configuration (default: the demo's)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one field")
    parser.add_argument("--run-dir", metavar="PATH_OR_URI", help="run folder; default runs/NAME")


def config_of(options: argparse.Namespace) -> Config:
    """The configuration that the arguments choose.

    Raises:
        UserError: it cannot be read, or an argument holds a secret.
    """
    refuse_secrets("--run-dir", options.run_dir or "", _CURE)
    for override in options.set:
        refuse_secrets("--set", override, _CURE)
    return load(DEMO if options.config is None else options.config, options.set)


def source_of(options: argparse.Namespace) -> str | None:
    """What to say where no configuration was given."""
    if options.config is not None:
        return None
    return f"No --config is given: this is the demo ({DEMO})."
