"""docs/proof.md, written from the committed JSON alone: every claim, what was measured, the command, the verdict."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from proof import claims
from proof.verdict import OPEN, Claim
from splitray.units import human

_WORDS = (
    "**Words.** N: parameters in matrix products. D: tokens of the base, drawn from the mixture; D': tokens that a "
    "specialist then draws from its own domain; K: domains. A budget counts the tokens of all models together, D + K "
    "D'; the split fraction s is D's part of it, 1 being unsplit training. A budget line is one size and budget at "
    "every s; loss along it is the bowl, and regret what a fraction's loss has above its bottom. The ladder: small "
    "runs that the law L(N, D, D') is fitted on. Losses are nats per token on held-out text, lower is better, equal "
    "weights for all domains."
)

_SHARED = 0.005  # nats that sharing a learning rate may cost


def page(
    results: Mapping[str, Any],
    search: Mapping[str, Any] | None,
    routing: Mapping[str, Any] | None,
    book: Any,
    folders: Mapping[str, str],
) -> str:
    """The whole page as Markdown.

    folders: where the figures of the proof and of the phonebook lie, as seen from the page.
    """
    rows = claims.rows(results, search, routing, book)
    pictures = {
        "Loss against split fraction": ("proof", "bowls.png", results["bowls"]),
        "Forecasts against runs": ("proof", "forecasts.png", results["prediction"]["scored"]),
        "Unsplit loss against tokens": ("proof", "multiplier.png", results["multiplier"]),
        "Facts known against split step": ("phonebook", "phonebook.png", book),
    }
    parts = [
        "# The proof",
        "Does the method hold on real text, at the scale of one machine, at equal tokens? Every number below is "
        f"written by the harness from its JSON; every run is a leaf of one tree, and `{results['command']}` trains "
        "what is missing and continues where it stopped. A claim holds where its aim is met or its 95 % interval "
        'excludes the opposite; what "in part" means is said with each.',
        _WORDS,
        _table(
            [
                ["claim", "verdict", "measured", "`--part`"],
                *([c.claim, c.verdict, c.figure, f"`{c.part}`" if c.part else "`phonebook.py`"] for c in rows),
            ]
        ),
        *(f"![{title}]({folders[where]}{name})" for title, (where, name, there) in pictures.items() if there),
        "## What was measured",
        *(part for claim in rows if claim.verdict != OPEN for part in _measured(claim)),
        "## What was learned on the way",
        *_findings(results),
        "## What was trained",
        *_details(results),
        _limits(results, rows),
    ]
    return "\n\n".join(part if part.startswith("|") else fill(part, 120) for part in parts) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _measured(claim: Claim) -> list[str]:
    return [f"**{claim.claim}: {claim.verdict}.** {claim.details}", *([_table(claim.table)] if claim.table else [])]


def _findings(results: Mapping[str, Any]) -> list[str]:
    """What was seen while measuring, negative findings included."""
    parts = []
    for pair in results["withdrawn"]:
        old, new = pair["withdrawn"], pair["standing"]
        parts.append(
            "The first budget lines showed what the forms of the law lacked: D' does less after a longer D. "
            f"`{new['form']}` was added then (docs/law.md), and the lines not yet begun were forecast anew. Of "
            f"{pair['name']} both forecasts are kept, and both are from before its runs: `{old['form']}` is "
            f"{old['error']:.2%} off in the loss and {old['difference']:.3f} nats in the differences to unsplit, "
            f"`{new['form']}` {new['error']:.2%} and {new['difference']:.3f}."
        )
    trained, planned = results["depth"], {str(b["shape"]) for b in results["bowls"]}
    if len(trained) > 1:
        errors = ", ".join(
            f"{d['shape']['hidden']} x {d['shape']['layers']} ({human(d['params'])} parameters) {d['error']:.1%}"
            for d in trained
        )
        gone = [f"{d['shape']['hidden']} x {d['shape']['layers']}" for d in trained if str(d["shape"]) not in planned]
        parts.append(
            "N alone may not tell how fast a model learns from few tokens. Errors of one law at sizes that it did not "
            f"see, hidden x layers, on the smallest budget: {errors}. The ladder's shapes are 13 to 20 times as wide "
            "as they are deep."
            + (
                f" So {' and '.join(gone)} was replaced after its first line, whose forecasts stay scored above; its "
                "bowl is not drawn, and the forecasts of its further lines were withdrawn before any of them "
                "was trained."
                if gone
                else ""
            )
        )
    return parts


def _details(results: Mapping[str, Any]) -> list[str]:
    corpus, grid, noise = results["corpus"], results["grid"], results["noise"]
    least, most = min(corpus["training_tokens"]), max(corpus["training_tokens"])
    parts = [
        f"K = {len(corpus['domains'])} domains of equal bytes, found without labels in {corpus['sources']} sources: "
        f"{human(least)} to {human(most)} training tokens each. All strategies share the schedule, the batch, the "
        "uniform weights and the order of the data, which is drawn without replacement. Budget lines are trained on "
        f"{len(corpus['ladder_domains'])} of the domains, those of the ladder, and one seed; the decisive comparisons "
        "on all domains and fresh seeds. The ladder's own cost comes on top.",
    ]
    if grid["leaves"]:
        sizes = ", ".join(human(n) for n in grid["params"])
        parts.append(
            f"The ladder: {grid['leaves']} of {grid['of']} leaves stand (sizes {sizes}), "
            f"{human(grid['tokens_trained'])} tokens trained where each leaf from scratch would take "
            f"{human(grid['tokens_from_scratch'])}: {grid['saving']:.1f} times fewer. "
            f"At most {grid['most_epochs']:.2f} passes over a domain's text."
        )
    if noise["cells"]:
        parts.append(
            f"Noise, from {noise['cells']} cells of the smallest sizes on {grid['seeds']} trunk seeds: "
            f"{noise['seed']:.2%} of the loss is shared by the runs of a seed, {noise['rest']:.2%} is a run's own; of "
            f"a mean over the ladder's domains, from {human(noise['mean_from'])} tokens on, {noise['mean']:.2%} is a "
            f"run's own, and of one over all domains on the decisive line {noise['every_domain']:.2%}."
        )
    if results["sweep"]:
        table = [["hidden", "tokens", "unsplit", "split in the middle"]]
        lines: dict[tuple[int, int], dict[str, str]] = {}
        for s in results["sweep"]:
            told = f"{s['sharing_costs']:.3f} (best: {s['best']:.2g} times it)"
            lines.setdefault((s["shape"]["hidden"], s["budget"]), {})[s["strategy"]] = told
        table += [
            [str(hidden), human(budget), told.get("unsplit", "-"), told.get("split", "-")]
            for (hidden, budget), told in lines.items()
        ]
        dear = sum(s["sharing_costs"] > _SHARED for s in results["sweep"])
        parts += [
            "One rule for the learning rate serves all. What it costs against each strategy's own best, in nats, by a "
            f"parabola through three rates of one seed, is more than {_SHARED} in {dear} of {len(results['sweep'])} "
            "sweeps; so the decisive comparison was trained at each strategy's own rate too.",
            _table(table),
        ]
    return parts


def _limits(results: Mapping[str, Any], rows: Sequence[Claim]) -> str:
    trained = {x["params"] for x in results["bowls"]} | set(results["grid"].get("params", []))
    largest = f"The largest size trained has {human(max(trained))} parameters. " if trained else ""
    waiting = sum(claim.verdict == OPEN for claim in rows)
    return largest + (f"{waiting} claims are not yet measured; the same command goes on with them." if waiting else "")
