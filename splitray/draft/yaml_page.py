"""A drafted configuration as YAML, with a comment for every choice."""

from splitray import yaml_text
from splitray.draft.draft import BUSY, Draft
from splitray.draft.numbers import STEPS, TOKENS_PER_PARAMETER
from splitray.pipeline.programme import Programme
from splitray.units import counted, duration, human

_NEAR = 0.8  # of the largest budget: the steps between budgets are a quarter


def page(draft: Draft) -> str:
    """The YAML of a draft; `splitray.load_config` reads it."""
    return "\n".join([*_head(draft), *_corpus(draft), *_training(draft), *_rest(draft)]) + "\n"


def _head(draft: Draft) -> list[str]:
    config, found = draft.config, draft.survey
    about = "" if found.whole else "about "
    bound = "text at hand" if config.budget > _NEAR * draft.most else "time that the run may take"
    return [
        "# Written by `splitray init`. Every line may be changed. `splitray settings` lists all fields.",
        "# What it would train and cost: splitray dry-run --config THIS_FILE. To start: splitray run --config THIS_FILE.",
        f"# {_time(draft)}",
        f"name: {yaml_text.inline(config.name)}  # the run folder is runs/NAME, below the folder in which you start",
        f"# D_T: tokens of all final models together. The {bound} decides it. The text has {about}{human(draft.tokens)}",
        f"# training tokens. Above {human(draft.most)}, some domain's text would be read twice. Another budget makes another",
        "# plan, so it wants another name. What both need is trained once: it is in the store, runs/store.",
        f"budget: {config.budget:_}",
    ]


def _time(draft: Draft) -> str:
    seconds, busy = draft.foretold.seconds, draft.speed.busy
    found = f"Time on this machine: about {duration(seconds)} with {counted(draft.speed.workers, 'worker')}."
    if busy < BUSY:
        return found
    return f"{found} Other programs make it {busy:.1f} times as long as it could be."


def _corpus(draft: Draft) -> list[str]:
    config, found = draft.config.corpus, draft.survey
    about = "" if found.whole else "about "
    kinds = ", ".join(counted(count, f"{kind} file") for kind, count in sorted(found.files.items()))
    lines = [
        "corpus:",
        "  # Files, folders, globs or URIs. A relative path is relative to the folder in which you start splitray.",
        f"  sources: [{yaml_text.inline(config.sources[0])}]",
        f"  # {kinds}: {about}{found.documents:,} documents, {about}{found.text_bytes / 1e6:,.1f} MB of text.",
    ]
    if found.columns is not None:
        lines.append(f"  text_column: {yaml_text.inline(config.text_column)}")
        if found.columns.others:
            others = ", ".join(found.columns.others[:8])
            lines += [
                f"  # Other columns: {_plain(others)}. Where rows of one work must stay together, name the work's:",
                "  # group_column: NAME",
            ]
    lines += [
        f"  domains: {config.domains}  # K; the smallest has {draft.grouping.smallest:.0%} of the sample's text",
        f"  validation_share: {config.validation_share:g}  # held out; more where there is little text",
        f"  tokenizer: {{vocabulary: {config.tokenizer.vocabulary}}}  # a token is {draft.bytes_per_token:.2f} bytes",
    ]
    return lines


def _plain(text: str) -> str:
    """Names of columns, fit for a comment: without line ends."""
    return " ".join(text.split())


def _training(draft: Draft) -> list[str]:
    config = draft.config
    training, ladder = config.training, config.ladder
    programme = Programme.unbuilt(config)
    sizes = [human(programme.size(shape).params) for shape in (*ladder.shapes, config.model)]
    per_parameter = config.budget / programme.size(config.model).params
    ratio = (config.model.hidden or 0) // (config.model.layers or 1)
    return [
        f"# The target: {sizes[-1]} parameters, {per_parameter:.2g} tokens for each. The largest of our shapes that has",
        f"# {TOKENS_PER_PARAMETER} or more is proposed, and the smallest where none has.",
        f"model: {{hidden: {config.model.hidden}, layers: {config.model.layers}}}",
        "training:",
        f"  sequence_length: {training.sequence_length}",
        f"  global_batch_size: {training.global_batch_size}  # sequences: the budget is about {STEPS} batches or more",
        f"  micro_batch_size: {training.micro_batch_size}  # sequences that a worker holds at once",
        f"  warmup_tokens: {training.warmup_tokens:_}  # about 2 % of the ladder's smallest D, a whole batch at least",
        "ladder:",
        f"  # Five sizes, {', '.join(sizes[:-1])} parameters, all {ratio} times as wide as deep like the target.",
        "  shapes:",
        *(f"    - {{hidden: {shape.hidden}, layers: {shape.layers}}}" for shape in ladder.shapes),
        f"  pretrain_tokens: {_counts(ladder.pretrain_tokens)}  # D: from small to half of the budget",
        f"  specialize_tokens: {_counts(ladder.specialize_tokens)}  # D': the least shows what the first tokens bring",
        f"  domains: {ladder.domains}  # of the K have D' runs: each more costs as much as one of these",
        f"  seeds: {ladder.seeds}  # of the smallest size: two tell the noise, without which intervals are too narrow",
        f"  max_share: {ladder.max_share:g}  # the ladder may cost so many budgets: it is large beside a small one",
    ]


def _counts(numbers: list[int]) -> str:
    return "[" + ", ".join(f"{number:_}" for number in numbers) + "]"


def _rest(draft: Draft) -> list[str]:
    config = draft.config
    search = config.search
    return [
        f"search: {{at: {search.at}, trials_per_round: {search.trials_per_round}, max_rounds: {search.max_rounds}, "
        f"tolerance: {search.tolerance:g}}}  # real splits around the plan",
        "evaluate:",
        f"  validation_tokens: {config.evaluate.validation_tokens}  # of a domain, on which losses are measured",
        "resources:",
        f"  tokens_per_second: {config.resources.tokens_per_second:.0f}  # of a worker with nothing beside it, measured: "
        "for the dry run's times",
    ]
