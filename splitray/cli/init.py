"""`splitray init`: a first configuration from a folder of text."""

import argparse
from pathlib import Path

from splitray.cli.command import Command, count, whole
from splitray.cli.terminal import terminal
from splitray.pipeline.display import shown
from splitray.units import counted, duration, human


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of text, JSON, CSV, Parquet or Arrow files; or a file, a glob, a URI")
    parser.add_argument("--out", default="config.yaml", metavar="FILE", help="where to write it; default config.yaml")
    parser.add_argument("--minutes", type=count, default=30.0, help="how long the run may take here; default 30")
    parser.add_argument("--domains", type=whole, metavar="K", help="number of domains; default: what a sample suggests")
    parser.add_argument("--text-column", metavar="NAME", help="column of the tables that holds the text; default: text")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def _run(options: argparse.Namespace) -> None:
    from splitray.api import draft_config
    from splitray.draft.places import check_output, write

    out = Path(options.out)
    check_output(out, options.folder, options.force)
    console = terminal()
    with shown(console):
        draft = draft_config(
            options.folder, minutes=options.minutes, domains=options.domains, text_column=options.text_column
        )
    write(out, draft.yaml(), options.force)
    config = draft.config
    console.print(
        f"{out}: K = {config.corpus.domains}, a budget of {human(config.budget)} tokens, "
        f"{counted(len(config.ladder.shapes), 'ladder size')}; about {duration(draft.foretold.seconds)} here",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"next: splitray run --config {out}", markup=False, soft_wrap=True)


COMMAND = Command(
    "Look at a folder of text and write a first configuration, with a comment for every choice. Starts no Ray.",
    _add_arguments,
    _run,
    "It takes about a minute: a sample is read, and the training speed is measured.",
)
main = COMMAND.main
