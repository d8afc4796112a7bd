"""The claims about specialists whose domain nobody names: their mixture on validation text and on exams."""

from collections.abc import Mapping
from typing import Any

from benchmarks.mixture_table import GATE, KNOWN, NEAREST
from benchmarks.proof.routing import UNSPLIT
from benchmarks.proof.verdict import Claim, ends, open_claim, verdict


def rows(routing: Mapping[str, Any] | None) -> list[Claim]:
    return [_routing(routing), _exams(routing)]


def _routing(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. So do specialists whose domain nobody names: their mixture writes"
    if not r:
        return open_claim(claim, "routing")
    shown = (KNOWN, "base", NEAREST, GATE, UNSPLIT)
    table = [["K", "way to choose", "loss", "less unsplit (95 %)", "models a token", "of documents from 1,000 tokens"]]
    for number, line in sorted(r["lines"].items(), key=lambda item: int(item[0])):
        ensembles = [x for x in line["rows"] if x["name"].startswith("c-BTM")]
        prefix = [x for x in line["rows"] if x["name"].startswith("first ")]
        best = min(ensembles, key=lambda x: x["loss"])
        for row in [*(x for x in line["rows"] if x["name"] in shown), best, *prefix]:
            long = row["models_by_length"].get("1000")
            cells = [number, row["name"], f"{row['loss']:.3f}", ends(row["less unsplit"]), f"{row['models']:.2f}"]
            table.append([*cells, "none so long" if long is None else f"{long:.2f}"])
    own = max(r["lines"].values(), key=lambda x: "exams" in x)
    gate = next(x for x in own["rows"] if x["name"] == GATE)
    documents = sum(own["documents"].values())
    details = (
        f"All {documents:,} validation documents that the proof scores, from the first token on, one seed, intervals "
        f"over groups. At the proof's own K the mixture is at {ends(own['mixture less known domain'], 4)} nats of the "
        f"known domain. A document's loss under the exact mixture was above its bound {own['bound_violations']} times "
        f"in {own['documents_checked']:,}. What stopping light models costs beyond the exact mixture with a uniform "
        f"prior is {gate['excess_mean']:+.4f} nats on average and {gate['excess_largest']:+.3f} at most. The first "
        "release routed each document by its first 200 characters. It was 0.034 nats worse than the unsplit model."
    )
    better = [x["less unsplit"]["high"] < 0 for line in r["lines"].values() for x in line["rows"] if x["name"] == GATE]
    return Claim(
        claim, verdict(all(better), any(better)), f"{ends(gate['less unsplit'])} nats", "routing", details, table
    )


def _exams(r: Mapping[str, Any] | None) -> Claim:
    claim = "6. So does their mixture on choice tasks (nats per byte of the right answer)"
    sets = next((line["exams"] for line in r["lines"].values() if line.get("exams")), None) if r else None
    if not sets:
        return open_claim(claim, "routing")
    table = [
        ["set", "mixture", NEAREST, UNSPLIT, "mixture less unsplit (95 %)", "accuracy, mixture and unsplit", "chance"]
    ]
    for name, e in sets.items():
        nats = [f"{e['takers'][taker]['nats_per_byte']['value']:.3f}" for taker in ("mixture", NEAREST, UNSPLIT)]
        right = [f"{e['takers'][taker]['accuracy']['value']:.0%}" for taker in ("mixture", UNSPLIT)]
        gap = ends(e["less unsplit"]["mixture"]["nats_per_byte"])
        table.append([name, *nats, gap, ", ".join(right), f"{e['chance']:.0%}"])
    gaps = [e["less unsplit"]["mixture"]["nats_per_byte"] for e in sets.values()]
    better, worse = sum(gap["high"] < 0 for gap in gaps), sum(gap["low"] > 0 for gap in gaps)
    details = (
        "A question is short, and unlike any domain here. Accuracy stays at chance at this size. Intervals are over "
        "questions. In part: no set is worse, or more are better than worse."
    )
    figure = f"better on {better}, worse on {worse} of {len(gaps)} sets"
    return Claim(claim, verdict(better == len(gaps), worse == 0 or better > worse), figure, "routing", details, table)
