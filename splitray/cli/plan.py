"""`splitray plan` and `python jobs/plan.py`: a table of runs in, a plan out."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from splitray.cli.command import Command, count, whole
from splitray.cli.design import add_arguments as add_design
from splitray.cli.design import run as show_design
from splitray.cli.plan_domains import candidates_table, choose, counts_of, fitted
from splitray.cli.plan_hours import add_arguments as add_hours
from splitray.cli.plan_hours import asked as asked_hours
from splitray.cli.plan_hours import show as show_hours
from splitray.cli.plan_table import show
from splitray.cli.terminal import terminal
from splitray.errors import UserError
from splitray.law import Law
from splitray.law.forms.schedule import SCHEDULE, RateSchedule
from splitray.law.planning.next_run import next_run
from splitray.law.planning.plan import Plan
from splitray.law.planning.planner import answer
from splitray.law.planning.question import Limits, Question
from splitray.law.planning.size import FLOPS_PER_TOKEN, plan_for_flops
from splitray.law.tables.names import normalised
from splitray.storage.address import Address
from splitray.training.settings import TrainingSettings

_TRAITS = ("width_to_depth", "learning_rate")
_SCHEDULE = {
    "decay_fraction": "share of D + D' over which the learning rate decays",
    "min_lr_ratio": "learning rate at the end of the decay over the peak",
    "specialist_lr_multiplier": "learning rate after the split over the schedule's",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "runs",
        nargs="?",
        help="CSV or Parquet table (params, pretrain_tokens, specialize_tokens, domain, loss), or a saved law",
    )
    add("--params", type=count, metavar="N", help="parameters of each model")
    add("--budget", type=count, metavar="D_T", help="total tokens: the base and all specialists")
    add("--flops", type=count, help="FLOPs instead of a budget; without --params the best size is searched too")
    add(
        "--domains", required=True, metavar="K", help="their number; numbers to choose from: 4,8,16; or names: law,code"
    )
    add("--weights", metavar="W,W,..", help="one per named domain, adding up to 1 (default: equal)")
    add("--per-domain", action="store_true", help="give every named domain its own optimal D'")
    add("--form", default="auto", help="a form of law, or auto (default): compete on held-out runs")
    add("--objective", default="huber_log", help="huber_log (default) or squared")
    add(
        "--bootstrap",
        type=whole,
        default=400,
        metavar="DRAWS",
        help="bootstrap draws for intervals (default 400; 0: none)",
    )
    add("--seed", type=whole, default=0, help="of starts and of bootstrap draws (default 0)")
    add("--level", type=count, default=0.8, help="mass of the intervals (default 0.8)")
    add("--min-pretrain", type=count, default=0.0, metavar="TOKENS", help="least shared pretraining")
    add("--available", type=count, metavar="TOKENS", help="tokens that each domain has")
    add("--text", type=count, metavar="TOKENS", help="tokens of all training text, where --domains has several numbers")
    add(
        "--epochs",
        type=count,
        help="the most passes over a domain's tokens after the split (default 4, or as many as runs show)",
    )
    add("--repetition", type=count, metavar="R", help="what repeated text is worth, R* (default: fitted, else 15.39)")
    for name in SCHEDULE:
        add(f"--{name.replace('_', '-')}", type=count, metavar="X", help=f"{_SCHEDULE[name]} (default: the runs')")
    add("--width-to-depth", type=count, metavar="X", help="width over layers of the model, to warn where runs differ")
    add("--learning-rate", type=count, metavar="X", help="peak learning rate of the model, likewise")
    add_hours(add)
    add("--tokens-per-second", type=count, help="measured rate of the whole cluster, for the time")
    add("--price-per-hour", type=count, help="of the whole cluster, for the cost")
    add("--candidates", metavar="FILE", help="table of runs that could be trained next, to rank")
    add_design(add, count, whole)
    add("--json", metavar="OUT", help="write the plan as JSON")
    add("--save-law", metavar="OUT", help="write the fitted law as JSON")
    add("--figures", metavar="DIR", help="write the figures as SVG and PNG")


def _run(given: argparse.Namespace) -> None:
    for name in ("runs", *_PLACES, "candidates"):
        setattr(given, name, _local(name, getattr(given, name)))
    hours, question = asked_hours(given), _question(given)
    if given.design:
        default = TrainingSettings()
        schedule = _schedule(given, RateSchedule(*(getattr(default, name) for name in SCHEDULE)))
        show_design(given, question and replace(question, schedule=schedule), terminal())
        return
    if given.runs is None:
        raise UserError("give a table of runs or a saved law, or --design for the ladder to train first")
    _check_outputs(given)
    counts, parts = counts_of(given.domains), list[RenderableType]()
    if len(counts) > 1:
        if question is None:
            raise UserError(f"--domains {given.domains}: numbers are compared at one size; give --params")
        choice = choose(given, counts, question)
        law, question, parts = choice.best.law, choice.best.question, [candidates_table(choice)]
    elif given.runs.endswith(".json"):
        law = Law.load(given.runs)
        if given.repetition is not None:
            law = replace(law, repetition=replace(law.repetition, constant=given.repetition, fitted=False))
    else:
        law = fitted(given, given.runs)
    schedule = _schedule(given, law.schedule)
    if question is not None:
        question = replace(question, schedule=schedule)
    hours_plan = None
    if hours is not None:
        asked = question or Question(1.0, max(1.0, given.min_pretrain), **_shared(given), schedule=schedule)
        hours_plan = hours.plan(law, asked, given.level)
        if given.flops is None and question is None:  # the same hours at equal tokens, for a model of that size
            chosen = hours_plan.chosen
            question = replace(asked, params=chosen.params, budget=chosen.unsplit_tokens)
    plan = _plan(given, law, question, schedule)
    if question is None:
        question = Question(plan.params, plan.budget, **_shared(given), schedule=schedule)
    if given.tokens_per_second is not None:
        plan = plan.priced(given.tokens_per_second, given.price_per_hour)
    candidates = next_run(law, question, given.candidates) if given.candidates else []
    if given.save_law:
        law.save(given.save_law)
    if given.json:
        plan.save(given.json)
    if given.hours_json and hours_plan is not None:
        hours_plan.save(given.hours_json)
    if given.figures:
        from splitray.report.law_figures import write_figures

        write_figures(law, question, plan, given.figures)
    for part in parts:
        terminal().print(part)
    show(plan, candidates, terminal())
    if hours_plan is not None:
        show_hours(hours_plan, terminal())


_PLACES = ("json", "hours_json", "save_law", "figures")  # options that name what is written


def _local(name: str, text: str | None) -> str | None:
    """A path that an argument names; files of plans and tables are local ones."""
    if text is None:
        return None
    address = Address.parse(text)
    if not address.is_local:
        option = "table of runs" if name == "runs" else f"--{name.replace('_', '-')}"
        raise UserError(f"{option} {address.uri}: splitray plan reads and writes local files; copy it to this machine")
    return text if address.scheme == "" and text[0] != "~" else address.path


def _check_outputs(given: argparse.Namespace) -> None:
    """Refuse, before the fit, a place that cannot be written."""
    for name in _PLACES:
        option, folder, given_path = f"--{name.replace('_', '-')}", name == "figures", getattr(given, name)
        if given_path is None:
            continue
        path = Path(given_path)
        place = path if folder else path.parent
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{option} {given_path}: {place} cannot be made ({error.strerror})") from error
        if not folder and path.is_dir():
            raise UserError(f"{option} {given_path}: this is a folder; give the name of a file")
        if not os.access(place, os.W_OK):
            raise UserError(f"{option} {given_path}: {place} cannot be written to")


def _shared(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a Question but the size and the budget."""
    names, counts = [normalised(name) for name in given.domains.split(",")], counts_of(given.domains)
    number = len(counts) > 1 or (len(names) == 1 and names[0].lstrip("+-").isdigit())
    try:
        weights = None if given.weights is None else [count(w) for w in given.weights.split(",")]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--weights {given.weights!r}: numbers separated by commas are needed ({error})") from error
    return {
        "domains": whole(names[0]) if number else names,
        "weights": weights,
        "allocation": "per_domain" if given.per_domain else "uniform",
        "limits": Limits(given.min_pretrain, given.available, given.epochs),
        "traits": {name: value for name in _TRAITS if (value := getattr(given, name)) is not None},
    }


def _question(given: argparse.Namespace) -> Question | None:
    """What is asked, checked before the fit; None where the size is to be searched."""
    if not 0 < given.level < 1:
        raise UserError(f"--level {given.level} must lie between 0 and 1")
    if given.price_per_hour is not None and given.tokens_per_second is None:
        raise UserError("--price-per-hour needs --tokens-per-second")
    if given.flops is not None:
        if given.budget is not None:
            raise UserError("--flops and --budget say the same: give one of them")
        if given.params is None:
            return None
        given.budget = given.flops / FLOPS_PER_TOKEN / given.params if given.params else 0.0
    if given.params is None and given.budget is None and given.hours is not None:
        return None
    if given.params is None or given.budget is None:
        raise UserError("give --params and --budget, or --flops, or --hours")
    return Question(given.params, given.budget, **_shared(given))


def _schedule(given: argparse.Namespace, default: RateSchedule) -> RateSchedule:
    """The schedule to plan for: the default, but for what is given."""
    asked = {name: value for name in SCHEDULE if (value := getattr(given, name)) is not None}
    schedule = replace(default, **asked)
    for name, rule, _ in schedule.faults():
        raise UserError(f"--{name.replace('_', '-')} {getattr(schedule, name):g}: {rule}")
    return schedule


def _plan(given: argparse.Namespace, law: Law, question: Question | None, schedule: RateSchedule) -> Plan:
    if question is None:
        return plan_for_flops(law, flops=given.flops, level=given.level, **_shared(given), schedule=schedule)
    return answer(law, question, given.level)


COMMAND = Command(
    "How many tokens belong before the split: fit a law to a table of runs and plan with it.",
    _add_arguments,
    _run,
    "Numbers may be written 1.3e9, 1.3B, 240B, 20M.",
)
main = COMMAND.main
