"""Numbers and findings in plain words, for the page, the figures' captions and the terminal."""

import math
from collections.abc import Callable, Mapping

from splitray.law.gravity import ordered
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.plan import SMALL_LOSS, Plan
from splitray.results.evaluation import PLANNED, UNSPLIT, Compared
from splitray.results.stages import Trial
from splitray.results.summary import Summary
from splitray.units import counted, human

UNKNOWN = "–"
_NBSP = "\N{NO-BREAK SPACE}"


def tokens(count: float | None) -> str:
    """Three digits and a unit: 12.6M. Also for parameters."""
    return UNKNOWN if count is None else human(count)


def percent(share: float | None) -> str:
    if share is None:
        return UNKNOWN
    digits = 1 if 0 < min(abs(share), abs(1 - share)) < 0.0995 else 0
    return f"{100 * share:.{digits}f}{_NBSP}%"


def share(value: float | None) -> str:
    """A small share with two digits of its own: 0.012 %."""
    return UNKNOWN if value is None else f"{100 * value:.2g}{_NBSP}%"


def loss(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.3f}".replace("-", "−")


def times(factor: float | None) -> str:
    return UNKNOWN if factor is None else f"{factor:.0f}×" if factor >= 99.5 else f"{factor:.2g}×"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    if seconds < 59.5:
        shown = f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    else:
        minutes, rest = divmod(round(seconds), 60)
        shown = f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
    return shown.replace(" ", _NBSP)


def number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def name(domain: str) -> str:
    """A domain's name as people read it: `0_statute_court` is 'statute court'."""
    index, _, words = domain.partition("_")
    return (words if index.isdigit() and words else domain).replace("_", " ")


Show = Callable[[float | None], str]


def middle(estimate: Estimate | None, show: Show) -> str:
    """The number itself; one that may be infinite and is, says so."""
    if estimate is None:
        return UNKNOWN
    return "∞" if math.isinf(estimate.value) else show(estimate.value)


def bounds(estimate: Estimate | None, show: Show) -> str:
    """`55 % to 70 %`; empty without draws, or where no draw is finite."""
    if estimate is None or estimate.low is None or estimate.high is None or math.isinf(estimate.low):
        return ""
    return f"{show(estimate.low)} to {'∞' if math.isinf(estimate.high) else show(estimate.high)}"


def interval(estimate: Estimate | None, show: Show) -> str:
    """`62 % (55 % to 70 %)`."""
    ends = bounds(estimate, show)
    return f"{middle(estimate, show)} ({ends})" if ends else middle(estimate, show)


def multiplier(plan: Plan) -> tuple[str, str]:
    """The compute multiplier and its bounds; where the gain is none to speak of, that instead, and the rule."""
    if plan.worthwhile:
        return middle(plan.compute_multiplier, times), bounds(plan.compute_multiplier, times)
    return "no gain to speak of", f"below {SMALL_LOSS:g} nats"


def resampled(summary: Summary) -> str:
    """What the intervals of comparisons are over."""
    counts = summary.evaluation.resampled if summary.evaluation else None
    if counts is None:
        return "validation documents, as if none depended on another"
    if counts.groups == counts.documents:
        return f"{counts.documents:,} validation documents, each a group of its own"
    corpus = summary.config.get("corpus", {"group_column": ""})  # by default a group is a file
    files = corpus.get("group_column") is None and not summary.corpus.row_split_groups
    return f"{counts.documents:,} validation documents from {counts.groups:,} groups{' (files)' if files else ''}"


def strategy(summary: Summary, name: str) -> Compared | None:
    """A row of the comparison, where there is one."""
    return summary.evaluation.strategy(name) if summary.evaluation else None


def chosen_plan(summary: Summary) -> Plan | None:
    """The plan that was carried out: the one after the search's refits where there was a search."""
    return summary.final_plan or summary.plan


def law_domains(summary: Summary) -> list[str]:
    """The domains that the law was fitted on: those that the ladder has models for, else all."""
    fitted = {row["domain"] for row in summary.ladder.table} if summary.ladder else set()
    return [d.name for d in summary.domains if not fitted or d.name in fitted]


def plan_weights(plan: Plan | None) -> dict[str, float]:
    """The weights by domain that a plan was made with; none where a mean stands for every domain."""
    return {part.domain: part.weight for part in plan.per_domain} if plan else {}


def on_law_domains(measured: Compared | Trial, summary: Summary) -> float:
    """A measured mean loss fit to stand beside the law's: over the law's domains only, with the plan's weights.

    Args:
        measured: a row of the comparison, or a trial of the search.
    """
    losses: Mapping[str, float] = (
        {m.domain: m.loss for m in measured.models} if isinstance(measured, Trial) else measured.by_domain
    )
    weights = plan_weights(chosen_plan(summary)) or dict.fromkeys(law_domains(summary), 1.0)
    known = {d: weight for d, weight in weights.items() if d in losses}
    return sum(w * losses[d] for d, w in known.items()) / sum(known.values()) if known else measured.loss


def planned_fraction(summary: Summary) -> float | None:
    """The split fraction that was carried out, else the plan's; None before there is a plan."""
    plan, split = chosen_plan(summary), strategy(summary, PLANNED)
    return split.split_fraction if split else plan.split_fraction.value if plan else None


def splits(summary: Summary) -> bool:
    """Whether the run splits, as far as one knows: a plan of 1 does not, and all its models are the same."""
    return (planned_fraction(summary) or 0.0) < 1


def plan_label(plan: Plan) -> str:
    return f"{100 * plan.level:.0f} % interval"


def verdict(summary: Summary) -> tuple[str, str]:
    """(headline, what supports it): the split that was chosen, and what it was worth at equal tokens."""
    plan, split, whole = chosen_plan(summary), strategy(summary, PLANNED), strategy(summary, UNSPLIT)
    fraction = planned_fraction(summary)
    if fraction is None:
        return "Not planned yet", "The run stopped before the law could say where to split."
    count, budget = len(summary.domains), tokens(summary.budget)
    if fraction >= 1:
        headline = _unsplit_headline(summary)
    elif fraction <= 0:
        headline = f"Split at once: {count} models from scratch"
    else:
        headline = f"Split after {percent(fraction)} of the tokens"
    if split is None or whole is None:
        assert plan is not None
        expected = f"At {budget} tokens the law expects {loss(plan.predicted_loss.value)} nats per token"
        if fraction >= 1:
            return headline, f"{expected} of one model, and no split to do better. Not measured yet."
        gain = f"{interval(plan.gain, loss)} below the unsplit model ({plan_label(plan)})"
        return headline, f"{expected}, {gain}. Not measured yet."
    measured = f"At {budget} tokens in all, the mean loss over {count} domains is {loss(split.loss)} nats per token"
    return headline, f"{measured}; {_against(split, whole)}{_better(summary, split)}"


def _unsplit_headline(summary: Summary) -> str:
    finished = summary.evaluation.base if summary.evaluation else None
    if not summary.specialists or finished is None:
        return "Do not split at this budget"
    folders = counted(len(summary.specialists), "folder")
    same = "hold" if len(summary.specialists) > 1 else "holds"
    return f"Do not split at this budget: the {folders} in specialists/ {same} the same model as {finished.path}/"


def next_step(summary: Summary) -> tuple[str, str]:
    """(from how many tokens splitting pays, the command that trains as many); empty where the run splits.

    The command is empty too where no budget is known that pays.
    """
    plan = chosen_plan(summary)
    if plan is None or splits(summary):
        return "", ""
    threshold = plan.split_threshold
    if math.isinf(threshold.value):
        return "The law knows no budget from which splitting pays at this size.", ""
    if threshold.value <= summary.budget:  # a limit of the plan keeps it from splitting, no lack of tokens
        return "", ""
    ends = bounds(threshold, tokens)
    said = f"At this size splitting pays from about {tokens(threshold.value)} tokens{f' ({ends})' if ends else ''}."
    if threshold.holds(summary.budget):
        said += " The law cannot exclude that it pays at this budget."
    unit = 10.0 ** (math.floor(math.log10(threshold.value)) - 1)
    budget = human(
        math.ceil(threshold.value / unit) * unit
    )  # two digits, rounded up: the threshold itself gains nothing
    return said, f"splitray run --config YOUR_FILE --set name={_next_name(summary.name)} --set budget={budget}"


def _next_name(run: str) -> str:
    stem, dash, number = run.rpartition("-")
    return f"{stem}-{int(number) + 1}" if dash and number.isdecimal() else f"{run}-2"


def losses_by_domain(summary: Summary) -> str:
    """The losses of the planned strategy, domain by domain: `sea 3.210, kitchen 2.981`."""
    split = strategy(summary, PLANNED)
    return ", ".join(f"{name(d)} {loss(value)}" for d, value in split.by_domain.items()) if split else ""


def gain_label(plan: Plan) -> str:
    """What `multiplier` is of."""
    return "unsplit would need" if plan.worthwhile else "gain by splitting"


def _against(split: Compared, whole: Compared) -> str:
    if split.split_fraction >= 1:
        return "the plan and the unsplit model are the same."
    difference = split.difference or Estimate(split.loss - whole.loss)
    against = f"unsplit it is {loss(whole.loss)}, a difference of {interval(difference, signed)}"
    if difference.holds(0):
        return f"{against}: not told apart from zero."
    return f"{against}." if difference.value < 0 else f"{against}: splitting did not pay here."


def _better(summary: Summary, split: Compared) -> str:
    rows = summary.evaluation.comparison if summary.evaluation else ()
    others = [row for row in rows if row.split_fraction != split.split_fraction]
    best = min(others, key=lambda row: row.loss, default=split)
    known = {contrast.strategy: contrast for contrast in summary.evaluation.contrasts} if summary.evaluation else {}
    if best.loss < split.loss - 5e-4:  # equal in the three digits shown is no better
        lower = known.get(best.strategy)
        doubt = " (not told apart)" if lower and not lower.significant else ""
        return f" Measured lower still: {best.strategy}, {loss(best.loss)}{doubt}."
    if len(others) < 2:
        return ""
    alike = [row.strategy for row in others if row.strategy in known and not known[row.strategy].significant]
    doubt = f"; not told apart from {', '.join(alike)}" if alike else ""
    return f" None of the {len(others)} other splits that were trained did better{doubt}."


def warnings(summary: Summary) -> list[str]:
    """What the law says against itself, each once; what can change the decision most comes first."""
    plan = chosen_plan(summary)
    if plan is not None:  # it repeats the warnings of its law
        raised = [str(warning) for warning in ordered(plan.warnings)]
    else:
        raised = list(summary.law.warnings) if summary.law else []
    return list(dict.fromkeys(w[:1].upper() + w[1:] for w in raised))


USE = """\
import splitray
from transformers import AutoModelForCausalLM

(domain,) = splitray.Router.load("router").names(["The text to go on from"])
model = AutoModelForCausalLM.from_pretrained(f"specialists/{domain}")"""  # from within the run folder


def models(summary: Summary) -> list[tuple[str, str]]:
    """(folder in the run folder, what it is for) of what was exported, but for the specialists one by one."""
    base, finished = summary.base, summary.evaluation.base if summary.evaluation else None
    whole, listed = not splits(summary), list[tuple[str, str]]()
    if summary.specialists:
        use = (
            f"the model of {finished.path if finished else 'base'}/, once for each domain"
            if whole
            else "for use, each on texts of its domain"
        )
        listed.append(("specialists/", use))
    if summary.router:
        listed.append((f"{summary.router}/", "which specialist a text belongs to: splitray.Router.load"))
    if finished:
        listed.append((f"{finished.path}/", "the base for use: its learning rate was decayed to the end"))
    if base and base.path:
        listed.append((f"{base.path}/", "the base to continue training from: before any decay of its learning rate"))
    return listed


def spending(summary: Summary) -> str:
    """What the results so far needed, and what all starts trained for them; empty where that was not counted."""
    known = [s for s in summary.stages if s.tokens_needed is not None and s.tokens_spent is not None]
    if not known or summary.starts is None:
        return ""
    needed, spent = (sum(getattr(s, name) or 0 for s in known) for name in ("tokens_needed", "tokens_spent"))
    flops = sum(s.flops_spent or 0.0 for s in known)
    starts = counted(summary.starts, "start")
    said = f"The results needed {tokens(needed)} training tokens. {starts} spent {tokens(spent)}"
    said += f" ({flops:.2g} FLOPs)." if flops else "."
    lost = sum(max(0, (s.tokens_spent or 0) - (s.tokens_needed or 0)) for s in known)
    found = sum(max(0, (s.tokens_needed or 0) - (s.tokens_spent or 0)) for s in known)
    if lost:
        said += f" Of these {tokens(lost)} were lost when work was cut short, or trained twice."
    if found:
        said += f" The store held {tokens(found)} from other runs."
    return said


def forgotten(summary: Summary) -> str:
    """What the table of forgetting shows, and how much of the mixture the specialists went on reading."""
    rows = summary.evaluation.forgetting if summary.evaluation else ()
    if not rows:
        return ""
    replay = summary.config.get("training", {}).get("replay_share", 0.0)
    mean = sum(row.difference.value for row in rows) / len(rows)
    drawn = f"{percent(replay)} of their tokens were mixture text" if replay else "they read no more of the mixture"
    return (
        "Loss on the mixture, in nats per token: of the base with its own decay, and of each specialist. A positive "
        f"difference is what it forgot. After the split {drawn}. The mean difference is {signed(mean)}."
    )
