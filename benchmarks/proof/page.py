"""docs/proof.md, written from the committed JSON alone: every claim, what was measured, the command, the verdict."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from benchmarks.proof import claims
from benchmarks.proof.claims_routing import Routing
from benchmarks.proof.verdict import OPEN, Claim
from splitray.units import human

_WORDS = (
    "**Words.** N is the parameters in matrix products. D is the tokens of the base, drawn from the mixture. D' is the "
    "tokens that a specialist then draws from its own domain. K is the number of domains. A budget counts the tokens "
    "of all models together, D + K D'. The split fraction s is D's part of it, and 1 is unsplit training. A budget "
    "line is one size and budget at every s. The loss along it is the bowl. Regret is how much the loss of a fraction "
    "lies above the bottom of the bowl. The ladder is the small runs that the law L(N, D, D') is fitted on. Losses are "
    "nats per token on held-out text, with equal weights for all domains. Lower is better."
)

_SHARED = 0.005  # nats that sharing a learning rate may cost


def page(
    results: Mapping[str, Any],
    search: Mapping[str, Any] | None,
    routing: Routing,
    blind: Mapping[str, Any] | None,
    book: Any,
    folders: Mapping[str, str],
) -> str:
    """The whole page as Markdown.

    folders: where the figures of the proof and of the phonebook lie, as seen from the page.
    """
    rows = claims.rows(results, search, routing, blind, book)
    pictures = {
        "Loss against split fraction": ("proof", "bowls.png", results["bowls"]),
        "Forecasts against runs": ("proof", "forecasts.png", results["prediction"]["scored"]),
        "Unsplit loss against tokens": ("proof", "multiplier.png", results["multiplier"]),
        "Facts known against split step": ("phonebook", "phonebook.png", book),
    }
    parts = [
        "# The proof",
        "Does the method hold on real text, at the scale of one machine, at equal tokens? The harness writes every "
        f"number below from its JSON. Every run is a leaf of one tree. `{results['command']}` trains what is missing "
        "and continues where it stopped.",
        "**Verdicts.** A claim holds where its aim is met, or where its 95 % interval excludes the opposite. What "
        '"in part" means is said with each claim.',
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
    return (
        "\n\n".join(part if part.startswith("|") else fill(part, 120, break_on_hyphens=False) for part in parts) + "\n"
    )


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
            f"`{new['form']}` was added then ([the law](law.md)), and the lines not yet begun were forecast again. Of "
            f"{pair['name']} both forecasts are kept, and both were made before its runs. `{old['form']}` is "
            f"{old['error']:.2%} off in the loss and {old['difference']:.3f} nats in the differences to unsplit. "
            f"`{new['form']}` is {new['error']:.2%} and {new['difference']:.3f} nats off."
        )
    trained, planned = results["depth"], {str(b["shape"]) for b in results["bowls"]}
    if len(trained) > 1:
        errors = ", ".join(
            f"{d['error']:.1%} at {d['shape']['hidden']} x {d['shape']['layers']} ({human(d['params'])} parameters)"
            for d in trained
        )
        gone = [f"{d['shape']['hidden']} x {d['shape']['layers']}" for d in trained if str(d["shape"]) not in planned]
        parts.append(
            "N alone may not tell how fast a model learns from few tokens. One law was scored at sizes that it did not "
            f"see, on the smallest budget. Its errors, for hidden x layers, are {errors}. The ladder's shapes are 13 "
            "to 20 times as wide as they are deep."
            + (
                f" So {' and '.join(gone)} was replaced after its first line. Its forecasts on that line stay scored "
                "above. Its bowl is not drawn. The forecasts of its further lines were withdrawn before any of them "
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
        f"K = {len(corpus['domains'])} domains of equal bytes were found without labels in {corpus['sources']} "
        f"sources. Each has {human(least)} to {human(most)} training tokens. All strategies share the schedule, the "
        "batch, the uniform weights and the order of the data, which is drawn without replacement. Budget lines are "
        f"trained on {len(corpus['ladder_domains'])} of the domains, those of the ladder, and one seed. The decisive "
        "comparisons use all domains and fresh seeds. The ladder's own cost comes on top.",
    ]
    if grid["leaves"]:
        sizes = ", ".join(human(n) for n in grid["params"])
        parts.append(
            f"The ladder has {grid['leaves']} of {grid['of']} leaves trained, at sizes {sizes}. That took "
            f"{human(grid['tokens_trained'])} tokens. Each leaf from scratch would take "
            f"{human(grid['tokens_from_scratch'])}, {grid['saving']:.1f} times as many. A domain's text is read at "
            f"most {grid['most_epochs']:.2f} times."
        )
    if noise["cells"]:
        parts.append(
            f"Noise is measured on {noise['cells']} cells of the smallest sizes with {grid['seeds']} trunk seeds. The "
            f"runs of a seed share {noise['seed']:.2%} of the loss, and {noise['rest']:.2%} is a run's own. Of a mean "
            f"over the ladder's domains, from {human(noise['mean_from'])} tokens on, {noise['mean']:.2%} is a run's "
            f"own. Of a mean over all domains on the decisive line it is {noise['every_domain']:.2%}."
        )
    if results["sweep"]:
        table = [["hidden", "tokens", "unsplit", "split in the middle"]]
        lines: dict[tuple[int, int], dict[str, str]] = {}
        for s in results["sweep"]:
            cell = f"{s['sharing_costs']:.3f} (best: {s['best']:.2g} times it)"
            lines.setdefault((s["shape"]["hidden"], s["budget"]), {})[s["strategy"]] = cell
        table += [
            [str(hidden), human(budget), cells.get("unsplit", "-"), cells.get("split", "-")]
            for (hidden, budget), cells in lines.items()
        ]
        dear = sum(s["sharing_costs"] > _SHARED for s in results["sweep"])
        parts += [
            "One rule for the learning rate serves all. The table has what it costs against each strategy's own best, "
            f"in nats, by a parabola through three rates of one seed. It costs more than {_SHARED} in {dear} of "
            f"{len(results['sweep'])} sweeps. So the decisive comparison was trained at each strategy's own rate too.",
            _table(table),
        ]
    return parts


def _limits(results: Mapping[str, Any], rows: Sequence[Claim]) -> str:
    trained = {x["params"] for x in results["bowls"]} | set(results["grid"].get("params", []))
    largest = f"The largest size trained has {human(max(trained))} parameters. " if trained else ""
    waiting = sum(claim.verdict == OPEN for claim in rows)
    return largest + (f"{waiting} claims are not yet measured; the same command goes on with them." if waiting else "")
