"""Claims about the law: what it predicts, and where it finds the split."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from proof.verdict import COMMAND, OPEN, Claim, verdict
from splitray.numbers import human

_FORECASTS = 24  # fewer support a claim in part


def rows(results: Mapping[str, Any]) -> list[Claim]:
    return [
        _prediction(results["prediction"]),
        _differences(results["prediction"]),
        _intervals(results["prediction"]),
        _threshold(results["thresholds"], results["bowls"]),
        _optimum(results["bowls"]),
        _bowl(results["bowls"]),
        _regret(results["regret"]),
    ]


def _prediction(p: Mapping[str, Any]) -> Claim:
    claim = "1. A law fitted to smaller sizes and budgets predicts the loss (aim: 1.5 %)"
    if not p["scored"]:
        return claim, "-", OPEN, COMMAND.format("forecast")
    error, flat, beyond = p["mean_relative_error"], p["mean_relative_error_chinchilla"], p["beyond"]
    parts = "".join(f", {b['error']:.2%} of {b['of']} at {name}" for name, b in beyond.items())
    told = (
        f"{error:.2%} mean error over {p['scored']} forecasts made before training{parts}; a Chinchilla law in D + D' "
        f"{flat:.2%}"
    )
    good = len(beyond) == 2 and all(b["error"] <= 0.015 for b in beyond.values()) and _enough(p)
    return claim, told, verdict(good, error < flat / 2), COMMAND.format("bowl")


def _enough(p: Mapping[str, Any]) -> bool:
    """Whether the forecasts are as many, and reach as far, as the claim asks."""
    return p["scored"] >= _FORECASTS and "a new size" in p["beyond"]


def _differences(p: Mapping[str, Any]) -> Claim:
    claim = "1. It predicts the difference between split and unsplit (aim: 0.01 nats)"
    if not p["scored"] or p["difference_error"] is None:
        return claim, "-", OPEN, COMMAND.format("forecast")
    d = p["difference_error"]
    told = (
        f"{d['mean_absolute']:.3f} nats mean error, bias {d['bias']:+.3f}, over {d['of']} differences of means over "
        f"domains; the noise of single runs alone would make it {d['by_noise_alone']:.3f}"
    )
    return (
        claim,
        told,
        verdict(d["mean_absolute"] <= 0.01 and _enough(p), d["mean_absolute"] <= 0.03),
        COMMAND.format("bowl"),
    )


def _intervals(p: Mapping[str, Any]) -> Claim:
    claim = "1. The forecasts' 80 % intervals hold what is then measured"
    if not p["scored"]:
        return claim, "-", OPEN, COMMAND.format("forecast")
    h = p["held"]
    told = f"{h['value']:.0%} of {h['of']} (95 % interval {h['low']:.0%} to {h['high']:.0%}, were they independent)"
    return (
        claim,
        told,
        verdict(h["low"] <= 0.8 <= h["high"] and _enough(p), h["value"] >= 0.5),
        COMMAND.format("bowl"),
    )


def _threshold(t: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "2. D_split grows with N"
    if t is None:
        return claim, "-", OPEN, COMMAND.format("forecast")
    told = ", ".join(
        f"{human(value)} ({human(low)} to {human(high)}) tokens at {human(params)}"
        for params, value, (low, high) in zip(t["params"], t["value"], t["interval"], strict=True)
    )
    values = [math.inf if value is None else value for value in t["value"]]
    grows = all(later > earlier for earlier, later in pairwise(values))
    told = f"by the law {told}; each step of size has it grow in {min(t['grows']):.0%} of the law's draws at least"
    firsts = []
    for n in sorted({x["params"] for x in lines}):
        mine = sorted((x["budget"], x["gain"] > 2 * x["noise"]) for x in lines if x["params"] == n)
        pays, not_yet = [b for b, good in mine if good], [b for b, good in mine if not good]
        firsts.append(min(pays, default=math.inf))
        told += f"; measured at {human(n)}: " + (
            f"a split gains more than twice the noise from {human(firsts[-1])} tokens on" if pays else "none gains"
        )
        told += f", not at {human(max(not_yet))}" if not_yet else ""
    measured = len(firsts) > 1 and firsts == sorted(firsts) and firsts[-1] > firsts[0]
    return claim, told, verdict(grows and measured, grows), COMMAND.format("bowl")


def _optimum(lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "2. The optimal fraction falls with the budget while the optimal D grows"
    sizes = [
        sorted((x for x in lines if x["params"] == n), key=lambda x: x["budget"]) for n in {x["params"] for x in lines}
    ]
    sizes = [line for line in sizes if len(line) > 1]
    if not sizes:
        return claim, "-", OPEN, COMMAND.format("bowl")
    told, falls, grows = [], [], []
    for line in sorted(sizes, key=lambda line: line[0]["params"]):
        best = [x["best"]["value"] for x in line]
        tokens = [b * x["budget"] for b, x in zip(best, line, strict=True)]
        falls += [later < earlier for earlier, later in pairwise(best)]
        grows += [later > earlier for earlier, later in pairwise(tokens)]
        path = ", ".join(
            f"{b:.2f} at {human(x['budget'])} (D {human(t)})" for b, t, x in zip(best, tokens, line, strict=True)
        )
        told.append(f"{human(line[0]['params'])}: {path}")
    every = falls + grows
    return claim, "; ".join(told), verdict(all(every), sum(every) > len(every) / 2), COMMAND.format("bowl")


def _bowl(lines: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "3. Loss against split fraction is a bowl"
    if not lines:
        return claim, "-", OPEN, COMMAND.format("bowl")
    inside = [x for x in lines if x["best"]["low"] > 0 and x["best"]["high"] < 1]
    gains = ", ".join(
        f"{x['gain']:+.3f} ({human(x['params'])}, {human(x['budget'])} tokens)"
        for x in sorted(lines, key=lambda x: (x["params"], x["budget"]))
    )
    told = f"the bottom lies inside (95 %) in {len(inside)} of {len(lines)} lines; gain over unsplit in nats: {gains}"
    return claim, told, verdict(len(inside) == len(lines), bool(inside)), COMMAND.format("bowl")


def _regret(r: Mapping[str, Any] | None) -> Claim:
    claim = "3. The law finds the bowl's bottom (aim: mean regret 0.005 nats, upper 95 % bound 0.01)"
    if r is None:
        return claim, "-", OPEN, COMMAND.format("bowl")
    told = f"mean regret {r['value']:.4f} nats ({r['low']:.4f} to {r['high']:.4f}) over {r['lines']} lines"
    told += "" if r["foretold"] else ", whose plans were not committed before their runs"
    good = r["value"] <= 0.005 and r["high"] <= 0.01 and r["foretold"]
    return claim, told, verdict(good, r["value"] <= 0.02), COMMAND.format("bowl")
