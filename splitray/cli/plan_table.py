"""A plan as a person reads it in the terminal."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitray.law.gravity import folded, ordered
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.next_run import Candidate
from splitray.law.planning.plan import SMALL_LOSS, Plan
from splitray.law.planning.threshold import RANGE
from splitray.units import human

_CANDIDATES = 10


def show(plan: Plan, candidates: Sequence[Candidate] = (), console: Console | None = None) -> None:
    """Print the plan: the decision in one sentence, its numbers with intervals, the runs to train next, warnings."""
    parts: list[RenderableType] = [Text(headline(plan), style="bold"), _numbers(plan)]
    if plan.per_domain:
        parts.append(_domains(plan))
    if plan.by_form:
        parts.append(_forms(plan))
    if candidates:
        parts.append(_candidates(candidates))
    parts.append(Text(_law(plan), style="dim"))
    told = folded([str(warning) for warning in ordered(plan.warnings)], "--json writes them all")
    parts += [Text.assemble(("! ", "bold yellow"), warning) for warning in told]
    (console or Console()).print(Group(*parts))


def headline(plan: Plan) -> str:
    """The decision in one sentence."""
    if not plan.splits:
        return f"Do not split: train one model of {human(plan.params)} on all {human(plan.budget)} tokens."
    copies = f"continue {plan.domains} copies on {human(plan.specialize_tokens.value)} tokens each"
    if plan.domains == 1:
        copies = f"continue it on {human(plan.specialize_tokens.value)} tokens of the domain"
    if plan.allocation == "per_domain":
        copies += " on average"
    shared = human(plan.pretrain_tokens.value)
    if plan.split_fraction.value == 0:
        return f"Split at once: train {plan.domains} models of {human(plan.params)} on {copies.split(' on ', 1)[1]}."
    return f"Pretrain one {human(plan.params)} base on {shared} of {human(plan.budget)} tokens, then {copies}."


def _numbers(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("plan", justify="right", style="bold")
    table.add_column(f"{plan.level:.0%} interval" if plan.draws else "", justify="right")
    table.add_column("", style="dim")

    def row(name: str, estimate: Estimate, form: str, note: str = "") -> None:
        write = human if form == "count" else lambda x: "∞" if x == float("inf") else f"{x:{form}}"
        if estimate.probability_infinite:
            note = f"∞ in {estimate.probability_infinite:.0%} of draws{'; ' if note else ''}{note}"
        between = "" if estimate.low is None else f"{write(estimate.low)} .. {write(estimate.high)}"
        table.add_row(name, write(estimate.value), between, note)

    row("split fraction s", plan.split_fraction, ".3f", "D / D_T")
    row("pretraining tokens D", plan.pretrain_tokens, "count")
    row("tokens per domain D'", plan.specialize_tokens, "count", _epochs(plan))
    row("predicted loss, split", plan.predicted_loss, ".4f", "nats per token")
    row("predicted loss, unsplit", plan.unsplit_loss, ".4f")
    row("gain", plan.gain, ".4f")
    if plan.repetition_cost is not None:
        row("repeated text costs", plan.repetition_cost, ".4f", "nats over as many new tokens")
    if plan.worthwhile:
        row("compute multiplier m", plan.compute_multiplier, ".3g", "x tokens, unsplit")
    else:
        table.add_row("compute multiplier m", "-", "", f"no gain to speak of: below {SMALL_LOSS:g} nats")
    everywhere = plan.split_threshold.value <= RANGE[0] * plan.params * (1 + 1e-9)
    note = "the least budget searched: all are split" if everywhere else "splitting pays above"
    row("split threshold D_split", plan.split_threshold, "count", note)
    if plan.best_params is not None:
        row("best size N", plan.best_params, "count", f"for {human(plan.flops)} FLOPs at 6 N a token")
    if plan.hours is not None:
        cost = "" if plan.cost is None else f"costs {plan.cost:,.0f}"
        table.add_row("time", f"{plan.hours:,.1f} h", "", cost)
    return table


def _epochs(plan: Plan) -> str:
    return "" if plan.epochs is None else f"up to {plan.epochs:.2g} epochs of a domain"


def _domains(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, title="by domain", title_justify="left")
    for name in ("domain", "weight", "D'", "loss, split", "unsplit", "epochs"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for part in plan.per_domain:
        table.add_row(
            part.domain,
            f"{part.weight:.3g}",
            human(part.specialize_tokens.value),
            f"{part.predicted_loss.value:.4f}",
            f"{part.unsplit_loss.value:.4f}",
            "-" if part.epochs is None else f"{part.epochs:.2g}",
        )
    return table


def _forms(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, title="forms within noise of the best", title_justify="left")
    for name in ("form", "share", "its own split", "loss there", "the plan loses if it is right"):
        table.add_column(name, justify="left" if name == "form" else "right")
    for form in plan.by_form:
        table.add_row(
            form.form,
            f"{form.share:.0%}",
            f"{form.split_fraction:.3f}",
            f"{form.predicted_loss:.4f}",
            f"{form.regret:.4f}",
        )
    return table


def _candidates(candidates: Sequence[Candidate]) -> Table:
    table = Table(box=None, pad_edge=False, title="run next, most informative per token first", title_justify="left")
    for name in ("row", "params", "D", "D'", "domain", "cost in tokens", "interval shrinks by"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for run in candidates[:_CANDIDATES]:
        table.add_row(
            str(run.row),
            human(run.params),
            human(run.pretrain_tokens),
            human(run.specialize_tokens),
            run.domain or "all",
            human(run.tokens),
            f"{run.shrinkage:.1%}",
        )
    return table


def _law(plan: Plan) -> str:
    error = "" if plan.heldout_error is None else f", held-out error {100 * plan.heldout_error.value:.2g} %"
    draws = f", {plan.draws} bootstrap draws" if plan.draws else ""
    return f"law: form {plan.form}{error}{draws}"
