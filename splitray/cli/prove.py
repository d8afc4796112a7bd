"""`splitray prove`: whether the plan is right, on one's own corpus: a forecast first, then the bowl, then the score."""

import argparse
from typing import TYPE_CHECKING

from splitray.cli.command import Command
from splitray.cli.options import add_config
from splitray.cli.run import carry_out
from splitray.cli.terminal import terminal

if TYPE_CHECKING:
    from splitray.pipeline.job import Job


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--forecast", action="store_true", help="seal the forecast and stop before the bowl is trained")


def _run(options: argparse.Namespace) -> None:
    console = terminal()
    run = carry_out(options, console, "plan", _forecast if options.forecast else _prove)
    if options.forecast:
        from splitray.pipeline.prove import FORECAST

        console.print(f"forecast: {run.folder.uri}/{FORECAST}", markup=False, soft_wrap=True)
        return
    from splitray.pipeline.prove import FIGURE, PROOF, read_proof
    from splitray.proof.table import terminal as table

    console.print(table(read_proof(run.folder)))
    for name in (PROOF, f"{FIGURE}.png"):
        console.print(f"{run.folder.uri}/{name}", markup=False, soft_wrap=True)


def _forecast(job: "Job") -> object:
    from splitray.pipeline.prove import sealed_forecast

    return sealed_forecast(job)


def _prove(job: "Job") -> object:
    from splitray.pipeline.prove import prove

    return prove(job)


COMMAND = Command(
    "Forecast the losses of several splits, then train them, and say what forecast and plan were worth.",
    _add_arguments,
    _run,
    "It runs the stages up to the plan where they are missing. `proof.fractions` names the splits.",
)
main = COMMAND.main
