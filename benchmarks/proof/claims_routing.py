"""The claims about specialists whose domain nobody names: their mixture on validation text and on exams."""

from collections.abc import Mapping
from typing import Any

from benchmarks.mixture_table import BEST, KNOWN, NEAREST
from benchmarks.proof.verdict import Claim, ends, open_claim, verdict
from splitray.results.evaluation import UNSPLIT
from splitray.results.folders import BASE

Routing = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]  # the mixture's, and the first release's


def rows(routing: Routing) -> list[Claim]:
    """The mixture's claims, and what the first release measured of its router.

    The latter is results/equal_compute/routing_first_release.json, by scripts that are gone. A proof of one's own has
    none.
    """
    mixture, first = routing
    found = [_routing(mixture), _exams(mixture)]
    return found if first is None else [*found, _first_routing(first), _first_exams(first)]


def _routing(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. So do specialists whose domain nobody names: their mixture writes"
    if not r:
        return open_claim(claim, "routing")
    shown = (KNOWN, BASE, NEAREST, UNSPLIT)
    table = [["K", "way to choose", "loss", "less unsplit (95 %)", "models a token", "of documents from 1,000 tokens"]]
    for number, line in sorted(r["lines"].items(), key=lambda item: int(item[0])):
        ensembles = [x for x in line["rows"] if x["name"].startswith("c-BTM")]
        prefix = [x for x in line["rows"] if x["name"].startswith("first ")]
        best = min(ensembles, key=lambda x: x["loss"])
        for row in [*(x for x in line["rows"] if x["name"] in shown or _is_gate(x)), best, *prefix]:
            long = row["models_by_length"].get("1000")
            cells = [number, row["name"], f"{row['loss']:.3f}", ends(row["less unsplit"]), f"{row['models']:.2f}"]
            table.append([*cells, "none so long" if long is None else f"{long:.2f}"])
    own = max(r["lines"].values(), key=lambda x: "exams" in x)
    gate = next(filter(_is_gate, own["rows"]))
    documents = sum(own["documents"].values())
    details = (
        f"All {documents:,} validation documents that the proof scores, from the first token on, one seed, intervals "
        f"over groups. At the proof's own K the mixture is at {ends(own['mixture less known domain'], 4)} nats of the "
        f"known domain. A document's loss under the exact mixture was above its bound {own['bound_violations']} times "
        f"in {own['documents_checked']:,}. What stopping light models costs beyond the exact mixture with a uniform "
        f"prior is {gate['excess_mean']:+.4f} nats on average and {gate['excess_largest']:+.3f} at most."
    )
    better = [x["less unsplit"]["high"] < 0 for line in r["lines"].values() for x in line["rows"] if _is_gate(x)]
    return Claim(
        claim, verdict(all(better), any(better)), f"{ends(gate['less unsplit'])} nats", "routing", details, table
    )


def _is_gate(row: Mapping[str, Any]) -> bool:
    """Whether a row is that of the mixture with the gate that was the default when it was measured."""
    return str(row["name"]).startswith("gate, ") and str(row["name"]).endswith("prior router")


def _exams(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. So does their mixture on choice tasks (nats per byte of the right answer)"
    sets = next((line["exams"] for line in r["lines"].values() if line.get("exams")), None) if r else None
    if not sets:
        return open_claim(claim, "routing")
    shown = [x for x in ("mixture", NEAREST, BEST, UNSPLIT) if x in next(iter(sets.values()))["takers"]]
    table = [["set", *shown, "mixture less unsplit (95 %)", "accuracy, mixture and unsplit", "chance"]]
    for name, e in sets.items():
        nats = [f"{e['takers'][taker]['nats_per_byte']['value']:.3f}" for taker in shown]
        right = [f"{e['takers'][taker]['accuracy']['value']:.0%}" for taker in ("mixture", UNSPLIT)]
        gap = ends(e["less unsplit"]["mixture"]["nats_per_byte"])
        table.append([name, *nats, gap, ", ".join(right), f"{e['chance']:.0%}"])
    gaps = [e["less unsplit"]["mixture"]["nats_per_byte"] for e in sets.values()]
    better, worse = sum(gap["high"] < 0 for gap in gaps), sum(gap["low"] > 0 for gap in gaps)
    details = (
        "A question is short, and unlike any domain here. Accuracy stays at chance at this size. Intervals are over "
        "questions. In part: no set is worse, or more are better than worse."
    )
    if BEST in shown:
        limits = [e["less unsplit"][BEST]["nats_per_byte"] for e in sets.values()]
        ahead = sum(gap["low"] > 0 and limit["high"] < 0 for gap, limit in zip(gaps, limits, strict=True))
        details += (
            " The best model by question is chosen with the answer at hand, so no router can pass it. It is better "
            f"than the unsplit model on {ahead} of the {worse} sets where the mixture is worse."
        )
    figure = f"better on {better}, worse on {worse} of {len(gaps)} sets"
    return Claim(claim, verdict(better == len(gaps), worse == 0 or better > worse), figure, "routing", details, table)


def _first_routing(r: Mapping[str, Any]) -> Claim:
    claim = "6. So do specialists that a router picks by a document's beginning (first release)"
    table = [["prefix", "share of the text", "routed", "routed as by the whole text", "routed less unsplit (95 %)"]]
    table += [
        [
            f"{p['prefix_characters']} characters",
            f"{p['share']:.0%}",
            f"{p['loss']:.3f}",
            f"{p['agreement']:.1%}",
            ends(p["routed less unsplit"]),
        ]
        for p in r["by_prefix"]
    ]
    first = r["by_prefix"][0]
    details = (
        "Validation documents on the decisive line, one seed, intervals over documents. The unsplit model has "
        f"{r['unsplit']:.3f} nats, and the specialists with the known domain have {first['known_loss']:.3f}. The loss "
        "is of whole documents, the prefix too. The verdict follows the configured prefix. In part: a longer one is "
        "enough."
    )
    better = [p["routed less unsplit"]["high"] < 0 for p in r["by_prefix"]]
    figure = "; ".join(
        f"{p['routed less unsplit']['value']:+.3f} by {p['prefix_characters']} characters" for p in r["by_prefix"]
    )
    return Claim(claim, verdict(better[0], any(better)), figure, "routing", details, table)


def _first_exams(r: Mapping[str, Any]) -> Claim:
    claim = "6. So do routed specialists on choice tasks (first release, nats per byte of the right answer)"
    table = [["set", "routed", "unsplit", "difference (95 %)", "accuracy, routed and unsplit", "chance"]]
    table += [
        [
            name,
            f"{e['routed']:.3f}",
            f"{e['unsplit']:.3f}",
            ends(e["difference"]),
            f"{e['accuracy']['routed']:.0%}, {e['accuracy']['unsplit']:.0%}",
            f"{e['chance']:.0%}",
        ]
        for name, e in r["exams"].items()
    ]
    better = [e["difference"]["high"] < 0 for e in r["exams"].values()]
    worse = [e["difference"]["low"] > 0 for e in r["exams"].values()]
    details = (
        "Models are routed by the question, which is short, and unlike any domain here. A specialist knows the other "
        "domains less than the unsplit model does. Accuracy stays at chance at this size. In part: more sets better "
        "than worse."
    )
    figure = f"better on {sum(better)}, worse on {sum(worse)} of {len(better)} sets"
    return Claim(claim, verdict(all(better), sum(better) > sum(worse)), figure, "routing", details, table)
