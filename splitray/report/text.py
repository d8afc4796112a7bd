"""Numbers and findings in plain words, for the page, the figures' captions and the terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from splitray.units import human

Summary = Mapping[str, Any]
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


Estimate = Mapping[str, Any]
Show = Callable[[float | None], str]


def middle(estimate: Estimate | None, show: Show) -> str:
    """The number itself; one that may be infinite and is, says so."""
    if estimate is None:
        return UNKNOWN
    unbounded = estimate["value"] is None and estimate.get("probability_infinite") is not None
    return "∞" if unbounded else show(estimate["value"])


def bounds(estimate: Estimate | None, show: Show) -> str:
    """`55 % to 70 %`; empty without draws, an open end where the number may be infinite."""
    if estimate is None or estimate.get("low") is None:  # a low end of infinity: no draw is finite
        return ""
    high = estimate.get("high")
    return f"{show(estimate['low'])} to {'∞' if high is None else show(high)}"


def interval(estimate: Estimate | None, show: Show) -> str:
    """`62 % (55 % to 70 %)`."""
    ends = bounds(estimate, show)
    return f"{middle(estimate, show)} ({ends})" if ends else middle(estimate, show)


def strategy(summary: Summary, wanted: str) -> Mapping[str, Any] | None:
    rows = (summary.get("evaluation") or {}).get("comparison") or []
    return next((row for row in rows if row["strategy"] == wanted), None)


def chosen_plan(summary: Summary) -> Mapping[str, Any] | None:
    """The plan that was carried out: the one after the search's refits where there was a search."""
    return summary.get("final_plan") or summary.get("plan")


def law_domains(summary: Summary) -> list[str]:
    """The domains that the law was fitted on: those that the ladder has models for, else all."""
    fitted = {row["domain"] for row in (summary.get("ladder") or {}).get("table") or []}
    return [d["name"] for d in summary["domains"] if not fitted or d["name"] in fitted]


def plan_weights(plan: Mapping[str, Any] | None) -> dict[str, float]:
    """The weights by domain that a plan was made with; none where a mean stands for every domain."""
    return {part["domain"]: part["weight"] for part in (plan or {}).get("per_domain") or []}


def on_law_domains(measured: Mapping[str, Any], summary: Summary) -> float:
    """A measured mean loss fit to stand beside the law's: over the law's domains only, with the plan's weights.

    Args:
        measured: a row of the comparison, or a trial of the search.
    """
    losses = measured.get("by_domain") or {m["domain"]: m["loss"] for m in measured.get("models") or []}
    weights = plan_weights(chosen_plan(summary)) or dict.fromkeys(law_domains(summary), 1.0)
    known = {d: weight for d, weight in weights.items() if d in losses}
    return sum(w * losses[d] for d, w in known.items()) / sum(known.values()) if known else float(measured["loss"])


def plan_label(plan: Mapping[str, Any]) -> str:
    return f"{100 * plan.get('level', 0.8):.0f} % interval"


def verdict(summary: Summary) -> tuple[str, str]:
    """(headline, what supports it): the split that was chosen, and what it was worth at equal tokens."""
    plan, split, whole = chosen_plan(summary), strategy(summary, "planned split"), strategy(summary, "unsplit")
    fraction = split["split_fraction"] if split else plan["split_fraction"]["value"] if plan else None
    if fraction is None:
        return "Not planned yet", "The run stopped before the law could say where to split."
    count, budget = len(summary["domains"]), tokens(summary["budget"])
    if fraction >= 1:
        headline = "Do not split at this budget"
    elif fraction <= 0:
        headline = f"Split at once: {count} models from scratch"
    else:
        headline = f"Split after {percent(fraction)} of the tokens"
    if split is None or whole is None:
        assert plan is not None
        expected = f"At {budget} tokens the law expects {loss(plan['predicted_loss']['value'])} nats per token"
        if fraction >= 1:
            return headline, f"{expected} of one model, and no split to do better. Not measured yet."
        gain = f"{interval(plan['gain'], loss)} below the unsplit model ({plan_label(plan)})"
        return headline, f"{expected}, {gain}. Not measured yet."
    measured = f"At {budget} tokens in all, the mean loss over {count} domains is {loss(split['loss'])} nats per token"
    return headline, f"{measured}; {_against(split, whole)}{_better(summary, split)}"


def _against(split: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    if split["split_fraction"] >= 1:
        return "the plan and the unsplit model are the same."
    difference = split.get("difference") or {"value": split["loss"] - whole["loss"], "low": None, "high": None}
    bounds = [difference[key] for key in ("low", "high")]
    against = f"unsplit it is {loss(whole['loss'])}, a difference of {interval(difference, signed)}"
    if None not in bounds and min(bounds) <= 0 <= max(bounds):
        return f"{against}: not told apart from zero."
    return f"{against}." if difference["value"] < 0 else f"{against}: splitting did not pay here."


def _better(summary: Summary, split: Mapping[str, Any]) -> str:
    others = [r for r in summary["evaluation"]["comparison"] if r["split_fraction"] != split["split_fraction"]]
    best = min(others, key=lambda row: row["loss"], default=split)
    if best["loss"] < split["loss"] - 5e-4:  # equal in the three digits shown is no better
        return f" Measured lower still: {best['strategy']}, {loss(best['loss'])}."
    return f" None of the {len(others)} other splits that were trained did better." if len(others) > 1 else ""


def warnings(summary: Summary) -> list[str]:
    """What the law says against itself, each once."""
    source = chosen_plan(summary) or summary.get("law") or {}  # a plan repeats those of its law
    raised = source.get("warnings") or []
    said = (w if isinstance(w, str) else f"{w['message']}: {w['reason']}; {w['cure']}" for w in raised)
    return list(dict.fromkeys(w[:1].upper() + w[1:] for w in said))


def limits(summary: Summary) -> list[str]:
    """What a reader must know before quoting a number from the page."""
    evaluation, corpus = summary.get("evaluation") or {}, summary.get("corpus") or {}
    rows = evaluation.get("comparison") or []
    said = []
    extra = [(w, summary.get(f"{w}_cost")) for w in ("ladder", "search")]
    costs = [f"{w} {tokens(c['tokens'])} tokens ({percent(c['share_of_budget'])} of it)" for w, c in extra if c]
    if costs:
        said.append(
            f"Finding the split cost tokens beyond the budget of {tokens(summary['budget'])}: {', '.join(costs)}, "
            "counted alike whatever the model's size."
        )
    if evaluation.get("note"):
        said.append(evaluation["note"])
    repeated = [r for r in rows if (r.get("epochs") or 0) > 1]
    if repeated:
        passes = ", ".join(f"{r['strategy']} {r['epochs']:.1f}" for r in repeated)
        said.append(f"Some training text is read more than once; most passes over any domain: {passes}.")
    seeds = (summary.get("ladder") or {}).get("seeds")
    if rows:
        known = "" if seeds is None or seeds > 1 else ", and the ladder has one seed, so that noise is not known here"
        said.append(f"Every compared model is trained once: differences include the noise between seeds{known}.")
    if summary.get("domains"):
        held = [d["validation"]["tokens"] for d in summary["domains"]]
        said.append(f"Validation text: {tokens(min(held))} to {tokens(max(held))} tokens a domain.")
    if groups := corpus.get("row_split_groups"):
        large = [f"{g['group']} ({percent(g['share_of_file'])} of its file's rows)" for g in groups]
        listed = ", ".join(large[:5]) + (f" and {len(large) - 5} more" if len(large) > 5 else "")
        said.append(f"Too large to stay on one side, so split into training and validation by row: {listed}.")
    if failures := sum(stage.get("failures") or 0 for stage in summary.get("stages") or []):
        said.append(f"Attempts at training that failed and were repeated: {failures} (see the stages).")
    return said
