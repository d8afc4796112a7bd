"""The command `splitray`, and `python -m splitray`: its subcommands, each a module of this package."""

import importlib
import sys
from collections.abc import Sequence

from splitray import __version__
from splitray.cli.command import DONE, WRONG_INPUT, Command, finish
from splitray.errors import check_choice

# name: module that holds it as COMMAND, what it does. A module is imported only when its command is given.
COMMANDS = {
    "init": ("splitray.cli.init", "a first configuration from a folder of text of your own"),
    "run": ("splitray.cli.run", "from a corpus and a token budget to specialist models, their law and a report"),
    "dry-run": ("splitray.cli.dry_run", "the tree that a run would grow, and what it would cost"),
    "plan": ("splitray.cli.plan", "fit a law to a table of runs, and plan the split with it"),
    "prove": ("splitray.cli.prove", "whether the plan is right: forecast several splits, train them, score both"),
    "study": ("splitray.cli.study", "does a domain pay? models of several sizes, continued on filtered text and not"),
    "export": ("splitray.cli.export", "model cards for a run's models, and one model with experts made of them"),
    "verify": ("splitray.cli.verify", "whether a run folder or an exported model is what was written"),
    "push": ("splitray.cli.push", "upload a finished and verified run to a repository of the Hugging Face hub"),
    "serve": ("splitray.cli.serve", "a finished run's specialists behind an OpenAI-style API"),
    "dashboards": ("splitray.cli.dashboards", "write the run's dashboard for Grafana"),
    "settings": ("splitray.cli.settings", "print every field of the configuration"),
    "prune": ("splitray.cli.prune", "list what a store could do without, and delete it when told to"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code: 0 done, 1 it failed, 2 the input is wrong."""
    name, *rest = sys.argv[1:] if arguments is None else arguments or [""]
    if name in ("", "-h", "--help", "--version"):
        finish(lambda: print(f"splitray {__version__}" if name == "--version" else _help()))
        return DONE if name else WRONG_INPUT
    found: list[Command] = []
    code = finish(lambda: found.append(_command(name)))
    return found[0].main(rest, f"splitray {name}") if found else code


def _command(name: str) -> Command:
    module, _ = COMMANDS[check_choice("command", name, COMMANDS)]
    command = importlib.import_module(module).COMMAND
    assert isinstance(command, Command), module
    return command


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return (
        "usage: splitray COMMAND ...\n\n"
        "How many tokens of a pretraining budget belong before the split into specialists?\n\n"
        f"{listed}\n\n"
        "`splitray COMMAND --help` lists its arguments. Without a configuration, `splitray run` runs the demo."
    )
