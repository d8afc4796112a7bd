"""`splitray plan --domains 4,8,16`: which number of domains to plan for."""

import argparse
from typing import Any, Literal

from rich.table import Table

from splitray.errors import UserError
from splitray.law import Law, fit
from splitray.law.planning.domains import DomainsChoice, choose_domains
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.question import Question


def counts_of(domains: str) -> list[int]:
    """The numbers that the argument lists; empty where it has names."""
    parts = [part.strip() for part in domains.split(",")]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else []


def fitted(given: argparse.Namespace, table: Any) -> Law:
    """The law of a table, as the arguments ask for it."""
    how: float | Literal["auto"] = "auto" if given.repetition is None else given.repetition
    return fit(table, given.form, given.objective, given.seed, given.bootstrap, repetition=how)


def choose(given: argparse.Namespace, counts: list[int], question: Question) -> DomainsChoice:
    """Plans for every number of domains that is asked for.

    Raises:
        UserError: there is no table to choose with.
    """
    if given.runs.endswith(".json"):
        raise UserError(f"--domains {given.domains}: a saved law is of one number of domains; give the table of runs")
    return choose_domains(given.runs, counts, question, lambda rows: fitted(given, rows), given.text, given.level)


def candidates_table(choice: DomainsChoice) -> Table:
    """The candidates side by side, the chosen one marked."""
    table = Table(box=None, pad_edge=False, title="by number of domains", title_justify="left")
    for name in ("K", "split fraction s", "gain over unsplit", "gains most in", "passes", ""):
        table.add_column(name, justify="right")
    for each in choice.candidates:
        share = "-" if each.best_in is None else f"{each.best_in:.0%} of draws"
        passes = "-" if each.plan.epochs is None else f"{each.plan.epochs:.2g}"
        mark = "planned below" if each is choice.best else ""
        fraction, gain = _shown(each.plan.split_fraction, ".3f"), _shown(each.plan.gain, ".4f")
        table.add_row(str(each.domains), fraction, gain, share, passes, mark)
    return table


def _shown(estimate: Estimate, form: str) -> str:
    if estimate.low is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} .. {estimate.high:{form}})"
