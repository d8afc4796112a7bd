"""The claims about lines that no fit and no choice of a form has seen: regrets, differences, losses and intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.proof.verdict import Claim, ends, open_claim, verdict
from splitray.units import human

_REGRET, _REGRET_HIGH = 0.003, 0.006  # nats: the mean, and its upper 95 % bound
_DIFFERENCE, _LOSS = 0.012, 0.015  # nats; share of the loss
_REJECTED = 0.05  # a binomial test below this says that intervals do not hold their level
_LAWS = {"now": "today's law", "first_release": "the first release's"}


def rows(blind: Mapping[str, Any] | None) -> list[Claim]:
    """The blind test's claims; None where nothing of it is trained."""
    counted = [line for line in (blind or {}).get("lines", []) if line["blind"]]
    if blind is None or not counted:
        names = ("regret of the plan", "differences and losses", "intervals")
        return [open_claim(f"1. Blind: {name}", "blind") for name in names]
    return [_regrets(blind, counted), _errors(blind["sums"]), _intervals(blind["sums"])]


def _regrets(blind: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "1. Blind: the planned split of a fresh line is near the best"
    table = [["line", "N", "tokens", "best", "planned, now", "regret", "first release's", "of one half"]]
    for line in lines:
        told = line["line"]
        shape = f"{told['shape']['hidden']} x {told['shape']['layers']}"
        parts = [line[name]["regret"] if name in line else None for name in _LAWS] + [line["half"]]
        regrets = ["-" if part is None else f"{part['value']:.4f}" for part in parts]
        planned, best = line["now"]["planned"], line["optimum"]
        table.append(
            [told["name"], shape, human(told["budget"]), ends(best, 2, False), ends(planned, 2, False), *regrets]
        )
    inner, other = blind["inner"], blind["unsplit"]
    sums = [f"{_named(name)} {_bounded(group)}" for name, group in inner.items() if group]
    details = (
        "Forecasts were committed before anything of their line was trained. Eight fractions have one seed. The "
        "planned one, one half and unsplit have three. Regret is in nats above the bottom of a smooth curve through "
        f"the measured means. Over the lines with an inner optimum it is on average: {'; '.join(sums) or 'none yet'}. "
        + (
            f"{other['now']['lines']} lines are best unsplit, and are counted apart: {_bounded(other['now'])}."
            if other["now"]
            else "No line so far is best unsplit."
        )
    )
    now = inner["now"]
    if now is None:
        return open_claim(claim, "blind")
    good = now["value"] <= _REGRET and now["high"] <= _REGRET_HIGH
    beats = all(now["value"] < group["value"] for name, group in inner.items() if group and name != "now")
    details += " In part: it is less than that of one half and of the first release's law."
    return Claim(claim, verdict(good, beats), f"{_bounded(now)} over {now['lines']} lines", "blind", details, table)


def _errors(sums: Mapping[str, Any]) -> Claim:
    claim = "1. Blind: predicted differences and losses are right"
    table = [
        ["law", "lines", "difference to unsplit: mean absolute error", "bias", "loss: mean absolute error", "bias"]
    ]
    for name, own in _by_law(sums):
        gap, loss = own["difference"], own["loss"]
        table.append(
            [
                _named(name),
                str(own["lines"]),
                f"{gap['mean_absolute_error']:.4f}",
                f"{gap['bias']:+.4f}",
                f"{loss['mean_absolute_error']:.2%}",
                f"{loss['bias']:+.2%}",
            ]
        )
    now = sums["now"]
    gap, loss = now["difference"]["mean_absolute_error"], now["loss"]["mean_absolute_error"]
    details = (
        "Errors are absolute. Differences are in nats, from split fraction 0.25 on. The aims are "
        f"{_DIFFERENCE} nats and {_LOSS:.1%} of the loss. In part: one of the two is met."
    )
    met = gap <= _DIFFERENCE, loss <= _LOSS
    return Claim(claim, verdict(all(met), any(met)), f"{gap:.4f} nats, {loss:.2%}", "blind", details, table)


def _intervals(sums: Mapping[str, Any]) -> Claim:
    claim = "1. Blind: 80 % intervals hold four of five"
    table = [["law", "of", "held", "lines held", "p of a binomial test by line", "mean width", "interval score"]]
    for name, own in _by_law(sums):
        for kind in ("loss", "difference"):
            part, trial = own[kind], own[kind]["by_line"]
            table.append(
                [
                    _named(name),
                    "losses, relative" if kind == "loss" else "differences, nats",
                    f"{part['held']:.0%}",
                    f"{trial['held']} of {trial['of']}",
                    f"{trial['p']:.2f}",
                    f"{part['width']:.4f}",
                    f"{part['score']:.4f}",
                ]
            )
        best = own["optimum"]
        held = f"{best['held'] / best['of']:.0%}"
        trial_of = f"{best['held']} of {best['of']}"
        table.append([_named(name), "best fractions", held, trial_of, f"{best['p']:.2f}", "-", f"{best['score']:.3f}"])
    now = sums["now"]
    tests = [now["loss"]["by_line"]["p"], now["difference"]["by_line"]["p"], now["optimum"]["p"]]
    kept = [p >= _REJECTED for p in tests]
    details = (
        "Points of one line share their errors, so a line is one trial. It is held where most of its points are. The "
        "interval score is of Gneiting and Raftery (2007): width, and ten times what lies outside. Less is better. In "
        "part: one of the three tests does not reject."
    )
    figure = f"losses {now['loss']['held']:.0%}, differences {now['difference']['held']:.0%}"
    return Claim(claim, verdict(all(kept), any(kept)), figure, "blind", details, table)


def _by_law(sums: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, sums[name]) for name in _LAWS if sums.get(name)]


def _named(name: str) -> str:
    return _LAWS.get(name, "one half")


def _bounded(group: Mapping[str, Any]) -> str:
    return f"{group['value']:.4f} ({group['low']:.4f} to {group['high']:.4f})"
