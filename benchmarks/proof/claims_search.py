"""Claims about the search: on lines that tuned neither it nor the law, and on the old ones that tuned it."""

from collections.abc import Mapping
from typing import Any

from benchmarks.proof.search import SEARCHES
from benchmarks.proof.verdict import Claim, open_claim, verdict
from splitray.units import human

_AIM = 3  # times the trials of the law-guided search
_RIVALS = ("random", "TPE")


def rows(found: Mapping[str, Any] | None) -> list[Claim]:
    """None where nothing was searched."""
    return [_fresh((found or {}).get("fresh")), _tuned(found)]


def _fresh(found: Mapping[str, Any] | None) -> Claim:
    claim = f"The law-guided search needs fewer trials on lines that did not tune it (aim: {_AIM} times fewer than TPE)"
    if found is None:
        return open_claim(claim, "blind_search.py")
    every, lines = found["overall"], found["lines"]
    one, told = lines[0], every["ratio"]
    table = [["line", "parameters, tokens", "within the tolerance", *SEARCHES]]
    table += [
        [
            line["name"],
            f"{line['shape']['hidden']} x {line['shape']['layers']}, {human(line['budget'])}",
            f"{line['width']:.0%} of s",
            *_trials(line),
        ]
        for line in lines
    ]
    behind = sum(line["law-guided"]["mean_trials"] > line["TPE"]["mean_trials"] for line in lines)
    dearer = sum(line["law-guided"]["mean_tokens_with_ladder"] > line["TPE"]["mean_tokens"] for line in lines)
    at_once = sum(line["law-guided"]["mean_trials"] == 1 for line in lines)
    details = (
        f"No law was fitted to these {len(lines)} lines of the blind test, and they tuned no part of the search. Each "
        "is searched on the smooth curve through its measured means, so that a trial may fall between measured "
        "fractions. Trials are looked up there without noise. A run's own noise is larger than the tolerance, and the "
        f"curve smooths a part of it. Trials are counted until one is within {one['tolerance']:g} nats of the curve's "
        f"bottom. A search that never gets there counts 40. The law-guided one has {one['ladder_resamples']} laws of "
        f"ladders that might have been, and the others have {one['repetitions']} seeds. It takes "
        f"{every['mean_trials']['law-guided']:.1f} trials on average. On {at_once} lines the first trial, which is the "
        f"plan, is near enough for every ladder. {_ratios(told)} It is behind TPE on {behind} of {len(lines)} lines. "
        f"With the ladder's {human(one['ladder_tokens'])} tokens counted in, it is dearer than TPE on {dearer} of "
        "them. So for one budget a search alone does not pay for a ladder. In part: fewer trials than both."
    )
    figure = ", ".join(f"{name} {told[name]['value']:.1f}" for name in _RIVALS) + " times as many trials"
    good, part = told["TPE"]["value"] >= _AIM, min(told[name]["value"] for name in _RIVALS) > 1
    return Claim(claim, verdict(good, part), figure, "blind_search.py", details, table)


def _tuned(found: Mapping[str, Any] | None) -> Claim:
    claim = f"The same on the old lines, which tuned it (aim: {_AIM} times fewer, without the ladder)"
    if found is None:
        return open_claim(claim, "search")
    every, one = found["overall"], found["lines"][0]
    table = [["line", *SEARCHES]]
    table += [
        [
            f"h{line['shape']['hidden']}, {human(line['budget'])} tokens"
            + ", and learning rate" * (line["dimensions"] > 1),
            *_trials(line),
        ]
        for line in found["lines"]
    ]
    cheaper = sum(f["law-guided"]["mean_tokens_with_ladder"] < f["TPE"]["mean_tokens"] for f in found["lines"])
    details = (
        f"Trials are counted until one is within {one['tolerance']:g} nats of the bottom of the smooth curve. They are "
        "looked up on that curve without noise. All searches may try unsplit training. A search that never finds the "
        f"bottom counts 40. Over {every['lines']} lines the law-guided search takes "
        f"{every['mean_trials']['law-guided']:.1f} trials. {_ratios(every['ratio'])} With the ladder's "
        f"{human(one['ladder_tokens'])} tokens it takes fewer than TPE on {cheaper} of the lines. Two parts came after "
        "the search was seen to fail on these lines: the correction by trials, and that next to unsplit it tries "
        "unsplit itself. So these lines tuned them and do not test them."
        + ("" if "forms" in found else " The law was the first release's.")
    )
    rivals = [every["ratio"][name]["value"] for name in _RIVALS]
    figure = f"random {rivals[0]:.1f}, TPE {rivals[1]:.1f} times as many trials"
    return Claim(claim, verdict(min(rivals) >= _AIM, min(rivals) > 1), figure, "search", details, table)


def _trials(line: Mapping[str, Any]) -> list[str]:
    """Mean trials of every search on a line."""
    return [
        f"{line[n]['mean_trials']:.1f}" + f" ({line[n]['never']:.0%} never)" * (line[n]["never"] > 0) for n in SEARCHES
    ]


def _ratios(told: Mapping[str, Any]) -> str:
    listed = "; ".join(f"{n} {r['value']:.1f} ({r['low']:.1f} to {r['high']:.1f} over lines)" for n, r in told.items())
    return f"The others take so many times as many: {listed}."
