"""The claims, each a row of the page: what is claimed, what was measured, the verdict, the command."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.proof import claims_blind, claims_law, claims_routing, claims_search
from benchmarks.proof.verdict import Claim, ends, open_claim, verdict
from splitray.units import human

_SEEDS, _SURE = 3, 0.95  # fewer seeds support a claim in part


def rows(
    results: Mapping[str, Any],
    search: Mapping[str, Any] | None,
    routing: claims_routing.Routing,
    blind: Mapping[str, Any] | None,
    book: Any,
) -> list[Claim]:
    """Every claim, in the order of the page."""
    return [
        *claims_blind.rows(blind),
        *claims_law.rows(results),
        _decided(results["decided"]),
        _clusterings(results["clusterings"]),
        _multiplier(results["multiplier"]),
        _best_size(results["best_size"]),
        _phonebook(book),
        *claims_routing.rows(routing),
        *claims_search.rows(search),
        _allocation(results["allocation"]),
        _nearness(results["nearness"], results["nearness_order"]),
    ]


def _decided(d: Mapping[str, Any] | None) -> Claim:
    claim = "3. The planned split beats unsplit training at equal tokens"
    if d is None:
        return open_claim(claim, "decide")
    gap, best, own = d["planned less unsplit"], d["planned less best measured"], d["own_rates"]
    details = (
        f"All {gap['domains']} domains, {gap['seeds']} fresh seeds, split fraction "
        f"{d['split_fraction']['planned']:.2f}. Against unsplit training the plan is at {ends(gap)} nats, with seeds "
        f"and domains resampled{_these(gap)}. Domain by domain the difference is {min(gap['by_domain']):+.3f} to "
        f"{max(gap['by_domain']):+.3f}. Against the best measured fraction, {d['split_fraction']['best measured']:g}, "
        f"it is {ends(best, 4)}{_these(best)}."
    )
    if own:
        each, rates = own["planned less unsplit"], own["rates"]
        details += (
            " Each was also trained at the learning rate that its sweep on this line liked best "
            f"({rates['split']:.2g} and {rates['unsplit']:.2g} times the shared one). Then the difference is "
            f"{ends(each)}{_these(each)}."
        )
    gaps = [gap, own["planned less unsplit"]] if own else [gap]
    good = all(g["high"] < 0 for g in gaps) and gap["seeds"] >= _SEEDS
    figure = f"{ends(gap)} nats" + (f"; at own rates {ends(gaps[1])}" if own else "")
    return Claim(claim, verdict(good, all(g["value"] < 0 for g in gaps)), figure, "decide", details)


def _these(gap: Mapping[str, Any]) -> str:
    if "these_domains" not in gap:
        return ""
    return f" ({gap['these_domains']['low']:+.4f} to {gap['these_domains']['high']:+.4f} for these domains alone)"


def _clusterings(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "3. It beats it under other clusterings of the corpus too"
    if len(found) < 2:
        return open_claim(claim, "clusterings")
    gaps = {f["corpus"]: f["planned less unsplit"] for f in found}
    others = [gap for name, gap in gaps.items() if name != "seed-0"]
    table = [["corpus", "planned less unsplit, nats (95 %)"], *([name, ends(gap)] for name, gap in gaps.items())]
    details = (
        "Clusters, samples and validation documents come from another seed. The plan is the same, with one training "
        "seed. Intervals are over domains."
    )
    figure = f"{min(g['value'] for g in others):+.3f} to {max(g['value'] for g in others):+.3f} nats"
    good = all(gap["high"] < 0 for gap in gaps.values()) and len(gaps) >= _SEEDS
    return Claim(claim, verdict(good, all(gap["value"] < 0 for gap in others)), figure, "clusterings", details, table)


def _multiplier(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "4. Unsplit training needs many times the tokens (two at least)"
    every = [(each, m) for each in found for m in each["multipliers"]]
    if not every:
        return open_claim(claim, "multiplier")
    table = [["parameters", "tokens", "measured (95 %)", "predicted (80 %)"]]
    table += [
        [human(each["params"]), human(m["budget"]), times(m["measured"]), _predicted(m["predicted"])]
        for each, m in every
    ]
    stored = ", ".join(human(each["stored_params_of_specialists"]) for each in found)
    details = (
        "The table has how many times its tokens unsplit training needs to reach the loss of the smooth bowl's bottom. "
        "It is over the ladder's domains, with one seed. No run repeats more than "
        f"{max(max(each['epochs']) for each in found):.2f} of a domain's text. All specialists together store {stored} "
        "parameters."
    )
    # the lower end of an interval is beyond the runs where all its draws are
    least = [m["measured"].get("at_least") or m["measured"]["low"] or math.inf for _, m in every]
    figure = "; ".join(times(m["measured"], short=True) for _, m in every)
    return Claim(claim, verdict(min(least) >= 2, max(least) >= 2), figure, "multiplier", details, table)


def times(measured: Mapping[str, Any], short: bool = False) -> str:
    """A multiplier in words, censored or not, with its interval."""
    value, low, high = (measured[n] for n in ("value", "low", "high"))
    if value is None:
        least = measured.get("at_least")
        return f"at most {measured['at_most']:.2g} times" if least is None else f"more than {least:.2g} times"
    both = [f"{x:.2f}" if x is not None else "beyond the runs" for x in (low, high)]
    return f"{value:.2f}" if short else f"{value:.2f} times ({' to '.join(both)})"


def _predicted(p: Mapping[str, Any] | None) -> str:
    """What the law had said: infinite where its value is null. Of what no run could show, only the lower end."""
    if p is None:
        return "not committed before"
    low, high = p.get("low"), p.get("high")
    if p["value"] is None or p["value"] > 50:
        return f"more than {low:.0f}" if low else "without bound"
    return f"{p['value']:.2f}" + (f" ({low:.2f} to {'no bound' if high is None else f'{high:.2f}'})" if low else "")


def _best_size(found: Sequence[Mapping[str, Any]]) -> Claim:
    claim = "4. Split beats unsplit, each at its own best size for the same FLOPs"
    if len(found) < 2:
        return open_claim(claim, "multiplier")
    table = [["parameters", "tokens", "unsplit", "split, at the law's fraction"]]
    table += [
        [
            human(f["params"]),
            human(f["tokens"]),
            f"{f['unsplit']:.3f}",
            f"{f['split']:.3f} (s = {f['split_fraction']:.2f})",
        ]
        for f in found
    ]
    unsplit, split = (min(f[name] for f in found) for name in ("unsplit", "split"))
    details = f"Each has {found[0]['flops']:.2g} FLOPs of training and one seed. Losses are over the ladder's domains."
    figure = f"{split:.3f} against {unsplit:.3f} nats"
    return Claim(claim, verdict(split < unsplit), figure, "multiplier", details, table)


def _phonebook(book: Any) -> Claim:
    claim = "5. On facts learned by heart, the best split step depends on overlap and budget"
    if book is None or not book["ends"]:
        return open_claim(claim, "")
    cases = book["ends"]
    table = [["overlap", "split at once", "the worst between", "unsplit", "at once less unsplit (95 %)"]]
    table += [
        [
            f"{e['overlap']:.0%}",
            f"{e['at_once']:.0%}",
            f"{e['worst']['accuracy']:.0%} at step {e['worst']['split_step']}",
            f"{e['unsplit']:.0%}",
            f"{100 * e['gap']['value']:+.0f} points"
            + (f" ({100 * e['gap']['low']:+.0f} to {100 * e['gap']['high']:+.0f})" if "low" in e["gap"] else ""),
        ]
        for e in cases
    ]
    steps, seeds, least = book["limited_steps"], min(e["gap"]["seeds"] for e in cases), book["sufficient_least"]
    details = (
        f"The table has facts known, as the mean of two clusters and {seeds} seeds. {steps} steps are too few for a "
        "cluster to learn all from step 0. Wherever the split lies, a cluster's own facts are drawn equally often. "
        "Shared facts are drawn more often the later it is. The later it is, the more facts one model must hold at "
        "once."
    )
    if cases[0]["worst"]["accuracy"] < min(cases[0]["at_once"], cases[0]["unsplit"]):
        details += " Without overlap it is no bowl, because the worst splits lie between."
    details += (
        ""
        if least is None
        else f" With enough steps at least {least:.1%} of the facts are known wherever the split lies."
    )
    gaps = [e["gap"]["value"] for e in cases]
    sure = cases[0]["gap"].get("low", -1) > 0 and cases[-1]["gap"].get("high", 1) < 0
    good = sure and gaps == sorted(gaps, reverse=True) and seeds >= _SEEDS
    figure = f"{100 * gaps[0]:+.0f} points without overlap, {100 * gaps[-1]:+.0f} with all shared"
    return Claim(claim, verdict(good, gaps[0] > 0 > gaps[-1]), figure, "", details, table)


def _allocation(a: Mapping[str, Any] | None) -> Claim:
    claim = "Beyond the paper: D'_k domain by domain, by the law, beat equal ones"
    if a is None:
        return open_claim(claim, "allocation")
    gap = a["by law less equal"]
    table = [["domain", "tokens", "tokens if equal", "change of the loss, nats"]]
    table += [[d, human(n), human(a["equal"]), f"{a['by_domain'][d]:+.3f}"] for d, n in a["specialize_tokens"].items()]
    figure = f"{gap['value']:+.4f} nats" + (f" ({gap['low']:+.4f} to {gap['high']:+.4f})" if gap["seeds"] > 1 else "")
    details = (
        f"The difference is {figure} over {gap['seeds']} seeds. The law {'had ' if a['foretold'] else ''}said "
        f"{-a['predicted_gain']:+.4f}, less than these seeds can tell. In part: better, and surely no worse than by "
        "0.005."
    )
    good, fair = gap.get("high", 0.0) < 0, gap["value"] < 0 and gap.get("high", 1.0) <= 0.005
    return Claim(claim, verdict(good, fair), figure, "allocation", details, table)


def _nearness(found: Sequence[Mapping[str, Any]], order: Mapping[str, Mapping[str, float]] | None) -> Claim:
    claim = "Beyond the paper: the nearer the domains, the later the split and the smaller its gain"
    if order is None:
        return open_claim(claim, "nearness")
    table = [
        ["corpus", "bits a byte from the mixture", "best fraction (95 %)", "gain, bits a byte (95 %)", "multiplier"]
    ]
    table += [
        [
            f["corpus"],
            f"{f['divergence']:.2f}",
            ends(f["best"], 2, sign=False),
            ends(f["gain"]),
            times(f["multiplier"]),
        ]
        for f in sorted(found, key=lambda f: -f["divergence"])
    ]
    gains, splits = order["gain_falls"], order["split_later"]
    details = (
        "Domains were found in all sources, in six sources of prose, and in three of law. Each has a bowl and unsplit "
        "training on more tokens, with one seed. The noise of single runs leaves the gains in this order "
        f"{gains['all']:.0%} of the time, and the splits {splits['all']:.0%}. Of the farthest and the nearest it is "
        f"{gains['ends']:.0%} and {splits['ends']:.0%}. In part: surely so between these two."
    )
    good, fair = (min(gains[n], splits[n]) >= _SURE for n in ("all", "ends"))
    figure = f"from the farthest to the nearest {gains['ends']:.0%} and {splits['ends']:.0%} sure"
    return Claim(claim, verdict(good, fair), figure, "nearness", details, table)
