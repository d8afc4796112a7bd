"""Claims about the law: what it predicts, and where it finds the split."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.proof.verdict import Claim, ends, open_claim, verdict
from splitray.units import human

_FORECASTS = 24  # fewer support a claim in part
_SURE = 0.95


def rows(results: Mapping[str, Any]) -> list[Claim]:
    return [
        _prediction(results["prediction"]),
        _differences(results["prediction"]),
        _intervals(results["prediction"]),
        _threshold(results["thresholds"], results["bowls"]),
        _optimum(results["steps"]),
        _bowl(results["bowls"]),
        _regret(results["regret"], results["bowls"]),
    ]


def _prediction(p: Mapping[str, Any]) -> Claim:
    claim = "1. A law fitted to small sizes and budgets predicts the loss (aim: 1.5 %)"
    if not p["scored"]:
        return open_claim(claim, "forecast")
    error, flat, beyond = p["mean_relative_error"], p["mean_relative_error_chinchilla"], p["beyond"]
    parts = " and ".join(f"{b['error']:.2%} on {b['of']} of them at {name}" for name, b in beyond.items())
    details = (
        f"{p['scored']} losses, domain by domain, were written down and committed before their runs began. "
        f"{p['refused']} more do not count, because their runs began earlier. The forecasts are {error:.2%} off on "
        f"average{f', {parts}' if parts else ''}. A Chinchilla law of D + D' is {flat:.2%} off. In part: less than "
        "half of that."
    )
    good = len(beyond) == 2 and all(b["error"] <= 0.015 for b in beyond.values()) and _enough(p)
    figure = f"{error:.2%} (Chinchilla {flat:.2%})"
    return Claim(claim, verdict(good, error < flat / 2), figure, "bowl", details)


def _enough(p: Mapping[str, Any]) -> bool:
    """Whether the forecasts are as many, and reach as far, as the claim asks."""
    return p["scored"] >= _FORECASTS and "a new size" in p["beyond"]


def _differences(p: Mapping[str, Any]) -> Claim:
    claim = "1. It predicts the difference between split and unsplit (aim: 0.01 nats)"
    if not p["scored"] or p["difference_error"] is None:
        return open_claim(claim, "forecast")
    d = p["difference_error"]
    details = (
        f"Means over domains along the budget lines have {d['mean_absolute']:.3f} nats of error and a bias of "
        f"{d['bias']:+.3f}, over {d['of']} differences. Most of it lies where nobody would split, at s = 0, far beyond "
        f"the ladder's D'. Single runs differ by {d['by_noise_alone']:.3f} through their noise alone. So the aim asks "
        "for more than one seed a point can show. In part: within 0.03."
    )
    table = [
        ["s", *map(str, d["by_fraction"])],
        ["error, nats", *(f"{error:.3f}" for error in d["by_fraction"].values())],
    ]
    good = d["mean_absolute"] <= 0.01 and _enough(p)
    figure = f"{d['mean_absolute']:.3f} nats"
    return Claim(claim, verdict(good, d["mean_absolute"] <= 0.03), figure, "bowl", details, table)


def _intervals(p: Mapping[str, Any]) -> Claim:
    claim = "1. The forecasts' 80 % intervals hold what is then measured"
    if not p["scored"]:
        return open_claim(claim, "forecast")
    h = p["held"]
    details = (
        f"{h['value']:.0%} of {h['of']} do (95 % interval {h['low']:.0%} to {h['high']:.0%}, were they independent). "
        "The law's draws know the noise of its runs. They do not know what its form lacks at sizes beyond them."
    )
    good = h["low"] <= 0.8 <= h["high"] and _enough(p)
    return Claim(claim, verdict(good), f"{h['value']:.0%} of them do", "bowl", details)


def _threshold(t: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "2. D_split, the tokens below which no split pays, grows with N"
    if t is None:
        return open_claim(claim, "forecast")
    table, firsts = [["parameters", "by the law (80 %)", "a split gains, measured", "no gain shown"]], []
    for params, value, (low, high) in zip(t["params"], t["value"], t["interval"], strict=True):
        mine = sorted((x["budget"], x["gain"] > x["gain_by_chance"]) for x in lines if x["params"] == params)
        pays, not_yet = [b for b, good in mine if good], [b for b, good in mine if not good]
        if mine:
            firsts.append(min(pays, default=math.inf))
        every = [", ".join(human(b) for b in budgets) or "-" for budgets in (pays, not_yet)]
        table.append([human(params), f"{_count(value)} ({_count(low)} to {_count(high)})", *every])
    values = [math.inf if value is None else value for value in t["value"]]
    grows = all(later > earlier for earlier, later in pairwise(values))
    details = (
        f"By the law each step of size has it grow in {min(t['grows']):.0%} of the draws at least. It is measured at "
        "the budgets of the bowls. A gain over unsplit training counts where noise alone shows as much less than once "
        "in forty times."
    )
    measured = len(firsts) > 1 and firsts == sorted(firsts) and firsts[-1] > firsts[0]
    figure = ", ".join(
        f"{_count(v)} at {human(n)}" for n, v in list(zip(t["params"], t["value"], strict=True))[:: len(values) - 1]
    )
    return Claim(claim, verdict(grows and measured, grows), f"by the law {figure}", "bowl", details, table)


def _count(value: float | None) -> str:
    return "none" if value is None else human(value)


def _optimum(sizes: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "2. The optimal fraction falls with the budget while the optimal D grows"
    if not any(size["falls"] for size in sizes):
        return open_claim(claim, "bowl")
    table = [["parameters", "optimal fraction and D by budget", "fraction falls", "D grows"]]
    for size in sizes:
        path = ", ".join(
            f"{b:.2f} at {human(x)} (D {human(b * x)})" for b, x in zip(size["best"], size["budgets"], strict=True)
        )
        shares = [", ".join(f"{p:.0%}" for p in size[name]) or "-" for name in ("falls", "grows")]
        table.append([human(size["params"]), path, *shares])
    every = [p for size in sizes for p in (*size["falls"], *size["grows"])]
    sure = sum(p >= _SURE for p in every)
    details = (
        "The table has bottoms of the smooth curves over the ladder's domains. It also has how often the noise of "
        "single runs leaves each step from a budget to the next in its direction."
    )
    good = sure == len(every)
    figure = f"{sure} of {len(every)} steps sure (95 %)"
    return Claim(claim, verdict(good, sure > len(every) / 2), figure, "bowl", details, table)


def _bowl(lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "3. Loss against split fraction is a bowl"
    if not lines:
        return open_claim(claim, "bowl")
    inside = [x for x in lines if x["best"]["low"] > 0 and x["best"]["high"] < 1]
    table = [["parameters", "tokens", "best fraction (95 %)", "gain over unsplit, nats", "by chance"]]
    table += [
        [
            human(x["params"]),
            human(x["budget"]),
            ends(x["best"], 2, sign=False),
            f"{x['gain']:+.3f}",
            f"up to {x['gain_by_chance']:.3f}",
        ]
        for x in sorted(lines, key=lambda x: (x["params"], x["budget"]))
    ]
    details = "Below D_split there is no bowl to find, because its lowest point is unsplit training."
    figure = f"bottom inside in {len(inside)} of {len(lines)} lines"
    return Claim(claim, verdict(len(inside) == len(lines), bool(inside)), figure, "bowl", details, table)


def _regret(r: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "3. The plan is near the bowl's bottom (aim: mean regret 0.005 nats, upper 95 % bound 0.01)"
    if r is None:
        return open_claim(claim, "bowl")
    table = [["parameters", "tokens", "regret, nats"]]
    table += [
        [human(x["params"]), human(x["budget"]), f"{x['regret']['value']:.4f}"]
        for x in sorted(lines, key=lambda x: (x["params"], x["budget"]))
        if "regret" in x
    ]
    details = f"Regret is the smooth curve's loss at the planned fraction above its bottom, over {r['lines']} lines. "
    details += "" if r["foretold"] else "These plans were not committed before their runs. "
    details += f"Noise alone would show {r['noisy_mean'] - r['value']:.4f} more. In part: within 0.02."
    good = r["value"] <= 0.005 and r["high"] <= 0.01 and r["foretold"]
    return Claim(claim, verdict(good, r["value"] <= 0.02), ends(r, 4, sign=False) + " nats", "bowl", details, table)
