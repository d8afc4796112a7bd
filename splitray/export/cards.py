"""Model cards: `README.md` of an exported folder, with the metadata that the Hugging Face hub reads."""

from collections.abc import Iterator
from typing import Any

from splitray.export.facts import BLANK, ModelFacts, RunFacts, between, table, tuned_text
from splitray.results.evaluation import PLANNED
from splitray.results.folders import CHECKSUMS, EVALUATION, MOE, TRAINING_CONTENT
from splitray.training.tree import MIXTURE
from splitray.units import duration, human

_METRIC = "cross-entropy"
_UNTRAINED = "No weight was trained for this model: it is made of others."


def write_card(run: RunFacts, model: ModelFacts) -> str:
    """The README of one model."""
    body = "\n\n".join(
        part
        for part in (
            f"# {run.summary.name}: {_title(model)}",
            _opening(run, model),
            _use(model),
            _data(run),
            _stages(run, model),
            _lineage(run, model),
            _cost(run, model),
            _plan(run),
            _evaluation(run, model),
            _limits(run, model),
            _checks(model),
        )
        if part
    )
    return f"---\n{_metadata(run, model)}\n---\n\n{body}\n"


def write_run_card(run: RunFacts, models: list[ModelFacts]) -> str:
    """The README of a whole run, whose models lie in folders below it."""
    rows = ((f"`{model.place}/`", model.card.get("use", "")) for model in models)
    first = next((model for model in models if model.record.lineage), models[0])
    parts = [
        f"# {run.summary.name}",
        f"{len(models)} models of one run of splitray {run.summary.splitray}. Each lies in a folder of its own, with "
        "a card of its own. `transformers` loads one with `subfolder`.",
        _publisher(),
        table(("folder", "what it is for"), rows),
        f"`router/` tells which domain a text belongs to. `{TRAINING_CONTENT}` says what the models were trained on.",
        _data(run),
        _cost(run, None),
        _plan(run),
        _comparison(run),
        _limits(run, first),
        "## Checks\n\n`splitray verify` recomputes the checksums and lineages of a run folder.",
    ]
    return f"---\n{_metadata(run, None)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _metadata(run: RunFacts, model: ModelFacts | None) -> str:
    """The YAML of the card. Licence and language are left out: nobody but the publisher knows them."""
    from huggingface_hub import EvalResult, ModelCardData

    place = model.place if model else ""
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="Next-token prediction",
            dataset_type="text",
            dataset_name=f"held-out documents of {run.summary.name}",
            dataset_config=domain,  # results of one data set and config are told apart by it alone
            dataset_split="validation",
            metric_type=_METRIC,
            metric_name="nats per token",
            metric_value=round(loss, 6),
        )
        for domain, loss in (_losses(run, model) if model else {}).items()
    ]
    tags = ["splitray", "domain-specialists"]
    if place.startswith("specialists/"):
        tags.append("specialist")
    elif place:
        tags.append("mixture-of-experts" if place == MOE else place)
    data: Any = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=tags,
        datasets=run.datasets or None,
        model_name=f"{run.summary.name}/{place}".rstrip("/") if results else None,
        eval_results=results or None,
    )
    return f"{data.to_yaml()}\n# license: and language: are for you to add, see the card"


def _title(model: ModelFacts) -> str:
    if model.merged is not None:
        return "one model with experts"
    domain = model.card.get("domain")
    return f"specialist of domain {domain}" if domain else model.place


def _opening(run: RunFacts, model: ModelFacts) -> str:
    what = (
        f"This model is one of several that a run of splitray {run.summary.splitray} has trained. It is {_for(model)}."
    )
    return f"{what}\n\n{_publisher()}"


def _for(model: ModelFacts) -> str:
    return str(model.card.get("use", "for use")).rstrip(".")


def _publisher() -> str:
    return table(
        ("for the publisher", ""),
        [
            ("Licence of the weights (also as `license:` above)", BLANK),
            ("Languages (also as `language:` above)", BLANK),
            ("Who publishes it, and how to reach them", BLANK),
            ("Intended use, and uses that are excluded", BLANK),
        ],
    )


def _use(model: ModelFacts) -> str:
    lines = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # where this card lies',
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        'ids = tokenizer(tokenizer.eos_token + "a text", return_tensors="pt")',
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=32)[0]))",
    ]
    text = "## Use\n\n```python\n" + "\n".join(lines) + "\n```\n\nEvery document began after an end token in training."
    if model.merged is None:
        return text
    name, active, count = model.merged.architecture, model.merged.active, len(model.merged.experts)
    return (
        f"{text}\n\nIts architecture is `{name}`, which `transformers` has: no code comes with it. A token "
        f"passes {active} of {count} experts. vLLM knows that architecture too: `vllm serve FOLDER`. It needs a head "
        "size that its attention kernels take, and a GPU or its build for CPUs. That was not run here."
    )


def _data(run: RunFacts) -> str:
    summary = run.summary
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in summary.corpus.skipped.items()) or "none"
    rows = (
        (
            d.name,
            ", ".join(d.top_terms[:8]),
            f"{d.weight:.3f}",
            d.train.documents,
            d.train.tokens,
            d.validation.documents,
            d.validation.tokens,
        )
        for d in summary.domains
    )
    head = ("domain", "terms that tell it", "weight", "documents", "tokens", "held out", "its tokens")
    return (
        "## Data\n\n"
        f"Sources: {'; '.join(run.sources)}. {summary.corpus.documents:,} documents were taken. Left out: {skipped}. "
        f"The tokenizer has {summary.corpus.vocabulary:,} entries, and a token is {summary.corpus.bytes_per_token:.2f} "
        f"bytes on average. {_origin(run)}\n\n{table(head, rows)}"
    )


def _origin(run: RunFacts) -> str:
    """Where the domains and their names come from."""
    if run.summary.given:
        return "Domains and their names are given by the sources."
    return (
        f"Domains are clusters of `{run.summary.corpus.embedder}` vectors, which nobody has named: the names are their "
        "terms."
    )


def _stages(run: RunFacts, model: ModelFacts) -> str:
    """Tokens by source and stage, from the lineage."""
    lineage, sizes = model.record.lineage, {d.name: d.train.tokens for d in run.summary.domains}
    if lineage is None:
        return ""
    rows, begin = [], 0
    for phase in lineage.phases:
        tokens = int(phase["end"]) - begin
        begin = int(phase["end"])
        source = str(phase["source"])
        text, replay = sum(sizes.values()) if source == MIXTURE else sizes.get(source), phase.get("replay", 0.0)
        passes = f"{(1 - replay) * tokens / text:.2f}" if text else "–"
        drawn = f"{source}, and {replay:.3g} of it replayed from all domains" if replay else source
        stage = "before the split" if source == MIXTURE else "after the split"
        if model.merged is not None:
            stage = "the routers alone, after the merge"
        rate = "decays" if phase["decay"] else "warms up, then stays"
        rows.append((stage, "all domains by weight" if source == MIXTURE else drawn, tokens, passes, rate))
    head = ("stage", "text", "tokens", "passes over that text", "learning rate")
    root = lineage.recipe.get("root")
    outside = f" It began from other weights, whose hash is `{root}`." if root else " It was trained from scratch."
    if model.merged is not None:
        outside = f" They come after those of the models that were merged. The merged weights have the hash `{root}`."
    return f"## Training\n\n{begin:,} tokens in all.{outside}\n\n{table(head, rows)}"


def _lineage(run: RunFacts, model: ModelFacts) -> str:
    record, recipe = model.record, model.record.lineage.recipe if model.record.lineage else {}
    rows: list[tuple[str, object]] = []
    if record.key:
        rows.append(("segment", f"`{record.key}`"))
    rows += [(f"merged from {place}", f"`{key}`") for place, key in record.sources.items()]
    rows += [("corpus", f"`{run.summary.corpus.key}`")]
    if recipe:
        rows += [
            ("content of its shards", f"`{recipe.get('corpus')}`"),
            ("seed", f"`{recipe.get('seed')}`"),
            ("precision", str(recipe.get("precision"))),
        ]
    weights = {name: f for name, f in record.files.items() if name.endswith(".safetensors")}
    rows += [(f"SHA-256 of `{name}`", f"`{file.sha256}`") for name, file in weights.items()]
    return (
        "## Lineage\n\nA segment's key is the hash of everything that decides its bits: settings, seed, corpus and the "
        f"order of training. `{CHECKSUMS}` has the whole lineage.\n\n{table(('what', 'name'), rows)}"
    )


def _cost(run: RunFacts, model: ModelFacts | None) -> str:
    lines = []
    if model is not None and model.merged is not None:
        tuning = model.merged.tuning
        lines.append(
            ("It is made of others. " + tuned_text(tuning) if tuning else _UNTRAINED)
            + f" It has {model.merged.params:,} weights, and a token meets {model.merged.active_params:,} of them."
        )
    elif model is not None and model.params:
        flops = f"{model.flops:.3g} FLOPs" if model.flops else "FLOPs that are not known"
        lines.append(
            f"{model.params:,} parameters multiply activations. Training this model alone takes {flops}; the stretch "
            "before the split is shared by all specialists."
        )
    hours = run.worker_hours
    if run.spent:
        rows = (
            (s.stage, human(s.tokens), f"{s.flops:.3g}" if s.flops else "–", duration(s.seconds), s.failures)
            for s in run.spent
        )
        head = ("stage", "tokens trained", "FLOPs", "wall time", "workers lost")
        lines.append(f"All starts of the run together have spent:\n\n{table(head, rows)}")
        lines.append(f"Training took {hours:.3g} worker hours, as measured.")
    else:
        lines.append("What the run has spent was not counted.")
    machine = run.summary.machine
    lines.append(
        f"Machine: {machine.nodes} node(s), {machine.cpus:g} CPUs, {machine.gpus:g} GPUs, {machine.cpu_model}."
    )
    lines.append(_money_and_energy(run))
    return "## Cost\n\n" + "\n\n".join(lines)


def _money_and_energy(run: RunFacts) -> str:
    """What all starts held, their price and their energy, where these were counted."""
    usage = run.summary.usage
    held = [f"{each.hours_held:.3g} {each.device} hours" for each in usage.total] if usage else []
    money = [each.money for each in usage.total if each.money is not None] if usage else []
    energy = [each for each in usage.total if each.energy_kwh is not None] if usage else []
    lines = [f"Its workers held {' and '.join(held)}."] if held else []
    lines.append(f"Money: {sum(money):.2f} {usage.currency}." if usage and money else f"Money: {BLANK}.")
    partly = "".join(
        f", counted over {each.energy_hours:.3g} of {each.hours_held:.3g} {each.device} hours"
        for each in energy
        if each.energy_hours is not None and not each.energy_is_whole
    )
    kwh = sum(each.energy_kwh or 0.0 for each in energy)
    lines.append(f"Energy of the GPUs: {kwh:.3g} kWh{partly}." if energy else f"Energy: {BLANK}.")
    return " ".join(lines)


def _plan(run: RunFacts) -> str:
    plan = run.summary.final_plan or run.summary.plan
    if plan is None:
        return ""
    evaluation = run.summary.evaluation
    planned = evaluation.strategy(PLANNED) if evaluation else None
    rows: list[tuple[str, str, str]] = [
        (
            "share of the tokens before the split",
            between(plan.split_fraction, ".3f"),
            f"{planned.split_fraction:.3f}" if planned else "–",
        ),
        ("loss, nats a token", between(run.predicted), f"{run.measured:.4f}" if run.measured is not None else "–"),
        (
            "below the unsplit model by",
            between(plan.gain),
            f"{-planned.difference.value:.4f}" if planned and planned.difference else "–",
        ),
    ]
    head = ("", f"planned ({plan.level:.0%} interval)", "came out")
    warned = "\n".join(f"- {warning}" for warning in plan.warnings)
    return (
        f"## Plan\n\nThe law `{plan.form}` was fitted on small runs and planned {human(plan.budget)} tokens.\n\n"
        f"{table(head, rows)}" + (f"\n\nIts warnings:\n\n{warned}" if warned else "")
    )


def _losses(run: RunFacts, model: ModelFacts | None) -> dict[str, float]:
    """Loss of a model on each domain, as far as the run has measured it."""
    evaluation = run.summary.evaluation
    if model is None or evaluation is None:
        return {}
    if model.merged is not None:
        return dict(model.merged.by_domain)
    matrix = evaluation.matrix
    finished = evaluation.base is not None and evaluation.base.path == model.place
    for name, row in zip(matrix.models, matrix.loss, strict=True):
        if name == model.card.get("domain") or (finished and name not in matrix.domains):
            return dict(zip(matrix.domains, row, strict=True))
    return {}


def _evaluation(run: RunFacts, model: ModelFacts) -> str:
    losses = _losses(run, model)
    parts = []
    if losses:
        parts.append(table(("domain", "nats a token"), ((d, f"{loss:.4f}") for d, loss in losses.items())))
    else:
        parts.append("This model was not scored by itself.")
    if model.merged is not None:
        rows = (
            (
                row.model,
                "–" if row.tokens is None else row.tokens,
                "–" if row.flops is None else f"{row.flops:.3g}",
                f"{row.loss:.4f}",
                f"{row.bits_per_byte:.4f}",
                between(row.difference, "+.4f"),
            )
            for row in model.merged.rows
        )
        head = ("model", "tokens", "FLOPs", "nats a token", "bits a byte", "experts less this (95 %)")
        parts.append(f"Beside others, also in `{EVALUATION}`:\n\n{table(head, rows)}")
        parts.append("Tokens and FLOPs are those of training all that a row needs, shared stretches once.")
    return "## Evaluation\n\nLosses are on held-out documents of the same sources.\n\n" + "\n\n".join(
        [*parts, _comparison(run, "### ")]
    )


def _comparison(run: RunFacts, heading: str = "## ") -> str:
    evaluation = run.summary.evaluation
    if evaluation is None:
        return ""
    rows: Iterator[tuple[object, ...]] = (
        (row.strategy, f"{row.split_fraction:.3f}", f"{row.loss:.4f}", between(row.difference, "+.4f"))
        for row in evaluation.comparison
    )
    head = ("strategy", "share before the split", "nats a token", "less the unsplit model (95 %)")
    return f"{heading}Strategies at equal tokens\n\n{table(head, rows)}"


def _limits(run: RunFacts, model: ModelFacts) -> str:
    length = model.record.lineage.recipe.get("sequence_length") if model.record.lineage else None
    lines = [
        "- It continues text. It was not tuned to follow instructions or to refuse.",
        "- It repeats what its corpus says, errors and prejudice included. Nothing was filtered for harm.",
        "- Losses are on text like its corpus. Nothing here says how it does on other text, or on tasks.",
        "- Intervals are over groups of documents, for this model. Another training seed would move the numbers too.",
    ]
    if length:
        lines.append(f"- It was trained on windows of {length} tokens, and knows nothing of longer ones.")
    split = run.summary.evaluation.strategy(PLANNED) if run.summary.evaluation else None
    if split is not None and split.difference is not None and split.difference.value > 0:
        lines.append("- At equal tokens the unsplit model has the lower loss here: see the comparison.")
    if model.card.get("domain"):
        lines.append("- A specialist is worse than its base on text of other domains: ask the router first.")
    return "## Limits\n\n" + "\n".join([*lines, f"- Known to the publisher besides: {BLANK}"])


def _checks(model: ModelFacts) -> str:
    return (
        "## Checks\n\n`splitray verify` on this folder compares every file with its SHA-256"
        + (" and recomputes the key from the lineage" if model.record.lineage else "")
        + f". This card and `{TRAINING_CONTENT}` are left out of it, because they have blanks to fill in."
    )
