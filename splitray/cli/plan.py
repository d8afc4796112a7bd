"""The command line of the planner: a table of runs in, a plan out."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from splitray.cli.plan_table import show
from splitray.errors import SplitrayError, UserError
from splitray.law import Law, fit
from splitray.law.planning.next_run import next_run
from splitray.law.planning.plan import Plan
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Limits, Question
from splitray.law.planning.size import FLOPS_PER_TOKEN, plan_for_flops
from splitray.units import parse_count


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def _count(text: str) -> float:
    try:
        return parse_count(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="plan.py",
        description="How many tokens belong before the split: fit a law to a table of runs and plan with it.",
        epilog="Counts may be written 1.3e9, 1.3B, 240B, 20M. Exit codes: 0 a plan was made, 2 wrong input.",
    )
    add = parser.add_argument
    add("runs", help="CSV or Parquet table (params, pretrain_tokens, specialize_tokens, domain, loss), or a saved law")
    add("--params", type=_count, metavar="N", help="parameters of each model")
    add("--budget", type=_count, metavar="D_T", help="total tokens: the base and all specialists")
    add("--flops", type=_count, help="FLOPs instead of a budget; without --params the best size is searched too")
    add("--domains", required=True, metavar="K", help="their number, or names in the table: law,code,fiction")
    add("--weights", metavar="W,W,..", help="one per named domain, adding up to 1 (default: equal)")
    add("--per-domain", action="store_true", help="give every named domain its own optimal D'")
    add("--form", default="auto", help="a form of law, or auto (default): compete on held-out runs")
    add("--objective", default="huber_log", help="huber_log (default) or squared")
    add(
        "--bootstrap",
        type=int,
        default=400,
        metavar="DRAWS",
        help="bootstrap draws for intervals (default 400; 0: none)",
    )
    add("--seed", type=int, default=0)
    add("--level", type=float, default=0.8, help="mass of the intervals (default 0.8)")
    add("--min-pretrain", type=_count, default=0.0, metavar="TOKENS", help="least shared pretraining")
    add("--available", type=_count, metavar="TOKENS", help="tokens that each domain has")
    add("--epochs", type=float, default=4.0, help="passes allowed over a domain's tokens (default 4)")
    add("--tokens-per-second", type=_count, help="measured rate of the whole cluster, for the time")
    add("--price-per-hour", type=float, help="of the whole cluster, for the cost")
    add("--candidates", metavar="FILE", help="table of runs that could be trained next, to rank")
    add("--json", metavar="OUT", help="write the plan as JSON")
    add("--save-law", metavar="OUT", help="write the fitted law as JSON")
    add("--figures", metavar="DIR", help="write the figures as SVG and PNG")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the planner; returns the exit code: 0, or 2 for wrong input (one line on standard error)."""
    try:
        _run(_parser().parse_args(arguments))
    except SplitrayError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def _run(given: argparse.Namespace) -> None:
    question = _question(given)
    if given.runs.endswith(".json"):
        law = Law.load(given.runs)
    else:
        law = fit(given.runs, given.form, given.objective, given.seed, given.bootstrap)
    plan = _plan(given, law, question)
    if question is None:
        question = Question(plan.params, plan.budget, **_shared(given))
    if given.tokens_per_second is not None:
        plan = plan.priced(given.tokens_per_second, given.price_per_hour)
    candidates = next_run(law, question, given.candidates) if given.candidates else []
    if given.save_law:
        law.save(given.save_law)
    if given.json:
        plan.save(given.json)
    if given.figures:
        from splitray.report.law_figures import write_figures

        write_figures(law, question, plan, given.figures)
    show(plan, candidates)


def _shared(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a Question but the size and the budget."""
    names = [name.strip() for name in given.domains.split(",")]
    number = len(names) == 1 and names[0].lstrip("+-").isdigit()
    try:
        weights = None if given.weights is None else [float(w) for w in given.weights.split(",")]
    except ValueError as error:
        raise UserError(f"--weights {given.weights!r}: numbers separated by commas are needed") from error
    return {
        "domains": int(names[0]) if number else names,
        "weights": weights,
        "allocation": "per_domain" if given.per_domain else "uniform",
        "limits": Limits(given.min_pretrain, given.available, given.epochs),
    }


def _question(given: argparse.Namespace) -> Question | None:
    """What is asked, checked before the fit; None where the size is to be searched."""
    if given.price_per_hour is not None and given.tokens_per_second is None:
        raise UserError("--price-per-hour needs --tokens-per-second")
    if given.flops is not None:
        if given.budget is not None:
            raise UserError("--flops and --budget say the same: give one of them")
        if given.params is None:
            return None
        given.budget = given.flops / FLOPS_PER_TOKEN / given.params if given.params else 0.0
    if given.params is None or given.budget is None:
        raise UserError("give --params and --budget, or --flops")
    return Question(given.params, given.budget, **_shared(given))


def _plan(given: argparse.Namespace, law: Law, question: Question | None) -> Plan:
    if not 0 < given.level < 1:
        raise UserError(f"--level {given.level} must lie between 0 and 1")
    if question is None:
        return plan_for_flops(law, flops=given.flops, level=given.level, **_shared(given))
    return answer(law, question, given.level)
