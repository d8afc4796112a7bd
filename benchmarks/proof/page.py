"""docs/proof.md, written from the committed JSON alone: every claim, what was measured, the command, the verdict."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from proof import claims
from proof.verdict import OPEN
from splitray.numbers import human


def page(
    results: Mapping[str, Any], search: Mapping[str, Any] | None, routing: Mapping[str, Any] | None, book: Any
) -> str:
    """The whole page as Markdown."""
    rows = claims.rows(results, search, routing, book)
    table = [
        "| claim | verdict | command |",
        "|---|---|---|",
        *(f"| {claim} | {verdict} | {command} |" for claim, _, verdict, command in rows),
    ]
    pictures = {
        "Loss against split fraction": ("equal_compute/bowls.png", results["bowls"]),
        "Forecasts against runs": ("equal_compute/forecasts.png", results["prediction"]["scored"]),
        "Unsplit loss against tokens": ("equal_compute/multiplier.png", results["multiplier"]),
        "Facts known against split step": ("phonebook/phonebook.png", book),
    }
    parts = [
        "# The proof",
        "Do the paper's claims hold on real text, at the scale of one machine, at equal tokens? Every number below is "
        "written by the harness from `benchmarks/results/`; every run is a leaf of one tree, and `python "
        "benchmarks/equal_compute.py` trains what is missing and continues where it stopped.",
        "\n".join(table),
        *(f"![{title}](../benchmarks/results/{path})" for title, (path, there) in pictures.items() if there),
        "## What was measured",
        *(f"**{claim}**: {measured}." for claim, measured, verdict, _ in rows if verdict != OPEN),
        "## What was learned on the way",
        *_findings(results),
        "## What was trained",
        *_details(results),
        "## Not yet measured",
        _limits(results),
    ]
    return "\n\n".join(part if part.startswith("|") else fill(part, 120) for part in parts) + "\n"


def _findings(results: Mapping[str, Any]) -> list[str]:
    """What was seen while measuring, negative findings included."""
    told, parts = results["prediction"], []
    if len(told.get("by_form", ())) > 1:
        errors = ", ".join(f"{name} {e['error']:.2%} (of {e['of']})" for name, e in told["by_form"].items())
        parts.append(
            "The first budget lines showed what the forms of the law lacked: D' does less after a longer D. "
            "`ossifying_gap` was added then (docs/law.md), and the lines not yet begun were forecast anew. Mean errors "
            f"on budget lines by the leading form of their law: {errors}."
        )
    shapes = {s["params"]: s["shape"] for s in results["scores"] if s["new_size"]}
    if len(shapes) > 1:
        errors = ", ".join(
            f"{shape['hidden'] / shape['layers']:.0f} ({human(n)} parameters) {told['by_size'][str(n)]['error']:.2%}"
            for n, shape in sorted(shapes.items())
            if str(n) in told["by_size"]
        )
        parts.append(
            "N alone does not tell how fast a model learns from few tokens: depth does too, and a ladder should keep "
            f"width over depth. Mean errors at sizes that no fit saw, by width over depth: {errors}."
        )
    return parts


def _details(results: Mapping[str, Any]) -> list[str]:
    corpus, grid, noise = results["corpus"], results["grid"], results["noise"]
    least, most = min(corpus["training_tokens"]), max(corpus["training_tokens"])
    parts = [
        f"K = {len(corpus['domains'])} domains of equal bytes, found without labels in the 20 sources of the shared "
        f"corpus: {human(least)} to {human(most)} training tokens each. All strategies share the schedule, the batch, "
        "the uniform weights and the order of the data; a budget counts the tokens of all models together, the ladder "
        "comes on top.",
    ]
    if grid["leaves"]:
        sizes = ", ".join(human(n) for n in grid["params"])
        parts.append(
            f"The ladder: {grid['leaves']} of {grid['of']} leaves stand (sizes {sizes}; "
            f"{len(corpus['ladder_domains'])} domains), {human(grid['tokens_trained'])} tokens trained where each leaf "
            f"from scratch would take {human(grid['tokens_from_scratch'])}: {grid['saving']:.1f} times fewer. At most "
            f"{grid['most_epochs']:.2f} passes over a domain's text."
        )
    if noise["cells"]:
        parts.append(
            f"Noise, from {noise['cells']} cells trained on three trunk seeds: {noise['seed']:.2%} of the loss is "
            f"shared by the runs of a seed, {noise['rest']:.2%} is a run's own; of a mean over domains, from "
            f"{human(noise['mean_from'])} tokens on, {noise['mean']:.2%} is a run's own."
        )
    if results["sweep"]:
        costs = ", ".join(
            f"{s['sharing_costs']:.3f} (hidden {s['shape']['hidden']}, {human(s['budget'])} tokens, {s['strategy']}: "
            f"{s['best']:.2g} times it)"
            for s in results["sweep"]
        )
        parts.append(
            "One rule for the learning rate. What it costs against each strategy's own best, in nats, by a parabola "
            f"through one seed's losses: {costs}."
        )
    return parts


def _limits(results: Mapping[str, Any]) -> str:
    trained = {x["params"] for x in results["bowls"]} | set(results["grid"].get("params", []))
    largest = f"The largest size trained so far has {human(max(trained))} parameters. " if trained else ""
    return largest + "Claims that are not yet measured say so above; the same command goes on with them."
