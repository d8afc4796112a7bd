"""The claims, each a row of the page: what is claimed, what was measured, the verdict, the command."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from proof import claims_law
from proof.verdict import COMMAND, OPEN, Claim, verdict
from splitray.numbers import human

_SEEDS = 3  # fewer support a claim in part


def rows(
    results: Mapping[str, Any], search: Mapping[str, Any] | None, routing: Mapping[str, Any] | None, book: Any
) -> list[Claim]:
    """Every claim, in the order of the page."""
    return [
        *claims_law.rows(results),
        _decided(results["decided"]),
        _clusterings(results["clusterings"]),
        _multiplier(results["multiplier"]),
        _best_size(results["best_size"]),
        _phonebook(book),
        _nearness(results["nearness"]),
        _allocation(results["allocation"]),
        _routing(routing),
        _exams(routing),
        _search(search),
    ]


def _decided(d: Mapping[str, Any] | None) -> Claim:
    claim = "3. The planned split beats unsplit on fresh seeds, all domains"
    if d is None:
        return claim, "-", OPEN, COMMAND.format("decide")
    gap, best = d["planned less unsplit"], d["planned less best measured"]
    told = (
        f"{gap['value']:+.3f} nats ({gap['low']:+.3f} to {gap['high']:+.3f}) to unsplit, {best['value']:+.4f} "
        f"({best['low']:+.4f} to {best['high']:+.4f}) to the best measured fraction; {gap['seeds']} seeds"
    )
    own = d["own_rates"]
    if own:
        each = own["planned less unsplit"]
        told += (
            f"; each at its own learning rate ({own['rates']['split']:.2g} and {own['rates']['unsplit']:.2g} times the "
            f"shared one) {each['value']:+.3f} ({each['low']:+.3f} to {each['high']:+.3f})"
        )
    gaps = [gap, own["planned less unsplit"]] if own else [gap]
    good = len(gaps) == 2 and all(g["high"] < 0 for g in gaps)
    return claim, told, verdict(good, all(g["value"] < 0 for g in gaps)), COMMAND.format("decide")


def _clusterings(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "3. It does on other clusterings of the corpus too"
    if len(found) < 2:
        return claim, "-", OPEN, COMMAND.format("clusterings")
    gaps = [f["planned less unsplit"] for f in found]
    told = "; ".join(
        f"{f['corpus']}: {g['value']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})"
        for f, g in zip(found, gaps, strict=True)
    )
    better = [g["high"] < 0 for g in gaps]
    return (
        claim,
        f"{told} nats",
        verdict(all(better) and len(found) >= _SEEDS, any(better)),
        COMMAND.format("clusterings"),
    )


def _multiplier(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "4. Unsplit training needs many times the tokens"
    every = [(each, m) for each in found for m in each["multipliers"]]
    if not every:
        return claim, "-", OPEN, COMMAND.format("multiplier")
    told = "; ".join(
        f"{times(m['measured'])} at {human(each['params'])} and {human(m['budget'])} tokens{_foretold(m['predicted'])}"
        for each, m in every
    )
    # "many" is two at least; the lower end of an interval is beyond the runs where all its draws are
    least = [m["measured"].get("at_least") or m["measured"]["low"] or math.inf for _, m in every]
    return claim, told, verdict(min(least) >= 2, max(least) >= 2), COMMAND.format("multiplier")


def times(measured: Mapping[str, Any]) -> str:
    """A multiplier in words, censored or not, with its interval."""
    value, low, high = (measured[n] for n in ("value", "low", "high"))
    if value is None:
        least = measured.get("at_least")
        return f"at most {measured['at_most']:.2g} times" if least is None else f"more than {least:.2g} times"
    ends = [f"{x:.2f}" if x is not None else "beyond the runs" for x in (low, high)]
    return f"{value:.2f} times ({' to '.join(ends)})"


def _foretold(p: Mapping[str, Any] | None) -> str:
    """What the law had said: infinite where its value is null."""
    return "" if p is None else f" (predicted {p['value']:.2f})" if p["value"] else " (predicted without bound)"


def _search(found: Mapping[str, Any] | None) -> Claim:
    claim = "The law-guided search needs fewer tokens (aim: 3 times fewer without the ladder)"
    if found is None:
        return claim, "-", OPEN, COMMAND.format("search")
    every = found["overall"]
    ratios = ", ".join(
        f"{n} {r['value']:.1f} times as many ({r['low']:.1f} to {r['high']:.1f} over lines)"
        for n, r in every["ratio"].items()
    )
    each = "; ".join(
        f"h{f['shape']['hidden']}, {human(f['budget'])} tokens{', with their learning rate' * (f['dimensions'] > 1)}: "
        f"{f['law-guided']['mean_trials']:.1f}, {f['random']['mean_trials']:.1f} and {f['TPE']['mean_trials']:.1f}"
        for f in found["lines"]
    )
    one = found["lines"][0]
    cheaper = sum(f["law-guided"]["mean_tokens_with_ladder"] < f["TPE"]["mean_tokens"] for f in found["lines"])
    told = (
        f"over {every['lines']} lines {every['mean_trials']['law-guided']:.1f} trials until within "
        f"{one['tolerance']:g} nats of the bottom, {ratios}. With the ladder's {human(one['ladder_tokens'])} tokens it "
        f"takes fewer than TPE on {cheaper} of the lines. Trials of law-guided, random and TPE: {each}"
    )
    least = min(r["value"] for r in every["ratio"].values())
    return claim, told, verdict(least >= 3, least > 1), COMMAND.format("search")


def _routing(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. Specialists with routing beat the unsplit model at equal tokens"
    if r is None:
        return claim, "-", OPEN, COMMAND.format("routing")
    told = "; ".join(
        f"by {human(p['prefix_characters'])} characters {p['loss']:.3f}, {p['agreement']:.1%} as the whole document, "
        f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f} over documents) to unsplit"
        for p in r["by_prefix"]
        for gap in [p["routed less unsplit"]]
    )
    told = f"unsplit {r['unsplit']:.3f}, known domain {r['by_prefix'][0]['known_loss']:.3f}, routed {told}"
    better = [p["routed less unsplit"]["high"] < 0 for p in r["by_prefix"]]
    return claim, told, verdict(all(better), any(better)), COMMAND.format("routing")


def _exams(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. They do on choice tasks too (nats per byte of the right answer)"
    if r is None or not r["exams"]:
        return claim, "-", OPEN, COMMAND.format("routing")
    told = "; ".join(
        f"{name} {e['routed']:.3f} against {e['unsplit']:.3f} ({e['difference']['low']:+.3f} to "
        f"{e['difference']['high']:+.3f}), accuracy {e['accuracy']['routed']:.0%} against "
        f"{e['accuracy']['unsplit']:.0%} (chance {e['chance']:.0%})"
        for name, e in r["exams"].items()
    )
    better = [e["difference"]["high"] < 0 for e in r["exams"].values()]
    return claim, told, verdict(all(better), any(better)), COMMAND.format("routing")


def _best_size(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "4. At its own best size split beats unsplit at its own for the same FLOPs"
    if len(found) < 2:
        return claim, "-", OPEN, COMMAND.format("multiplier")
    told = "; ".join(f"{human(f['params'])}: {f['unsplit']:.3f} and {f['split']:.3f}" for f in found)
    unsplit, split = (min(f[name] for f in found) for name in ("unsplit", "split"))
    text = f"best unsplit {unsplit:.3f}, best split {split:.3f} nats; by size, unsplit and split: {told}"
    return claim, text, verdict(split < unsplit, False), COMMAND.format("multiplier")


def _nearness(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "Beyond the paper: the nearer the domains, the later the split and the smaller its gain"
    if len(found) < 2:
        return claim, "-", OPEN, COMMAND.format("nearness")
    order = sorted(found, key=lambda f: -f["divergence"])
    told = "; ".join(
        f"{f['corpus']} ({f['divergence']:.2f} bits a byte from the mixture): best at {f['best']:.0%}, "
        f"{f['gain']:.3f} bits a byte, {times(f['multiplier'])}"
        for f in order
    )
    gains, best = [f["gain"] for f in order], [f["best"] for f in order]
    falls, later = gains == sorted(gains, reverse=True), best == sorted(best)
    return claim, told, verdict(falls and later, falls or later), COMMAND.format("nearness")


def _allocation(a: Mapping[str, Any] | None) -> Claim:
    claim = "Beyond the paper: D'_k by the law beats equal D'_k at equal tokens"
    if a is None:
        return claim, "-", OPEN, COMMAND.format("allocation")
    gap = a["by law less equal"]
    shares = ", ".join(f"{d} {human(n)}" for d, n in a["specialize_tokens"].items())
    ends = f"{gap['low']:+.4f} to {gap['high']:+.4f}; " if gap["seeds"] > 1 else ""
    told = (
        f"{gap['value']:+.4f} nats ({ends}{gap['seeds']} seeds; foretold {-a['predicted_gain']:+.4f}): {shares} "
        f"instead of {human(a['equal'])} each"
    )
    return claim, told, verdict(gap.get("high", 0.0) < 0, gap["value"] < 0), COMMAND.format("allocation")


def _phonebook(book: Any) -> Claim:
    claim = "5. The split step matters on facts learned by heart, by overlap and budget"
    if book is None:
        return claim, "-", OPEN, "`python benchmarks/phonebook.py`"
    points = book["points"]
    limited = min(p["steps"] for p in points)
    told, gaps = [], []
    for overlap in sorted({p["overlap"] for p in points}):
        line = sorted(
            (p for p in points if p["overlap"] == overlap and p["steps"] == limited), key=lambda p: p["split_step"]
        )
        gaps.append(line[-1]["accuracy"] - line[0]["accuracy"])
        told.append(f"{overlap:.0%}: {line[0]['accuracy']:.0%} split at once, {line[-1]['accuracy']:.0%} unsplit")
    enough = [p["accuracy"] for p in points if p["steps"] > limited]
    seeds = sorted({min(p["seeds"] for p in points), max(p["seeds"] for p in points)})
    text = (
        f"limited budget of {limited} steps, by overlap: {'; '.join(told)} (seeds: {' to '.join(map(str, seeds))}); "
        f"sufficient budget: at least {min(enough):.1%} everywhere"
    )
    turns = gaps[0] < 0 < gaps[-1]
    return (
        claim,
        text,
        verdict(turns and gaps == sorted(gaps) and seeds[0] >= _SEEDS, turns),
        "`python benchmarks/phonebook.py`",
    )
