"""A drafted configuration as YAML, with a comment for every choice."""

import textwrap

from splitray import yaml_text
from splitray.draft.draft import BUSY, Draft
from splitray.draft.numbers import STEPS, TOKENS_PER_PARAMETER
from splitray.pipeline.programme import Programme
from splitray.units import counted, duration, human

_NEAR = 0.8  # of the largest budget: the steps between budgets are a quarter
_WIDTH = 110
_NAMED = 8  # columns


def page(draft: Draft) -> str:
    """The YAML of a draft; `splitray.load_config` reads it."""
    return "\n".join([*_head(draft), *_corpus(draft), *_training(draft), *_rest(draft)]) + "\n"


def _comment(text: str, indent: str = "") -> list[str]:
    """A comment, wrapped; line ends within the text are blanks."""
    return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _head(draft: Draft) -> list[str]:
    config, about = draft.config, "" if draft.survey.whole else "about "
    bound = "text at hand" if config.budget > _NEAR * draft.most else "time that the run may take"
    return [
        *_comment("Written by `splitray init`. Every line may be changed. `splitray settings` lists all fields."),
        "# What it would train and cost:  splitray dry-run --config THIS_FILE",
        "# To start, or to continue:      splitray run --config THIS_FILE",
        *_comment(_time(draft)),
        *_comment("The run folder is runs/NAME, below the folder in which you start."),
        f"name: {yaml_text.inline(config.name)}",
        *_comment(
            f"D_T: tokens of all final models together. The {bound} decides it. The text has {about}"
            f"{human(draft.tokens)} training tokens. Above a budget of {human(draft.most)}, a domain's text would be "
            "read twice. Another budget makes another plan, so it wants another name. What both runs need is trained "
            "once and lies in the store, runs/store."
        ),
        f"budget: {config.budget:_}",
    ]


def _time(draft: Draft) -> str:
    seconds, busy = draft.foretold.seconds, draft.speed.busy
    found = f"Time on this machine: about {duration(seconds)} with {counted(draft.speed.workers, 'worker')}."
    return found if busy < BUSY else f"{found} Other programs make it {busy:.1f} times as long as it could be."


def _corpus(draft: Draft) -> list[str]:
    config, found = draft.config.corpus, draft.survey
    about = "" if found.whole else "about "
    kinds = ", ".join(counted(count, f"{kind} file") for kind, count in sorted(found.files.items()))
    lines = [
        "corpus:",
        *_comment(
            f"{kinds}: {about}{found.documents:,} documents, {about}{found.text_bytes / 1e6:,.1f} MB of text. Sources "
            "are files, folders, globs or URIs. A relative path is relative to the folder in which you start splitray.",
            "  ",
        ),
        f"  sources: [{yaml_text.inline(config.sources[0])}]",
    ]
    if found.columns is not None:
        lines.append(f"  text_column: {yaml_text.inline(config.text_column)}")
        if others := found.columns.others[:_NAMED]:
            named = f"Other columns: {', '.join(others)}."
            lines += _comment(
                f"{named} Where several rows are one work, name its column, so that it stays whole:", "  "
            )
            lines.append("  # group_column: NAME")
            lines += _comment("Where one says which domain a row belongs to, no domains need be found:", "  ")
            lines.append("  # domain_column: NAME")
    return [
        *lines,
        f"  domains: {config.domains}  # K; the smallest has {draft.grouping.smallest:.0%} of the sample's text",
        f"  validation_share: {config.validation_share:g}  # held out; more where there is little text",
        f"  tokenizer: {{vocabulary: {config.tokenizer.vocabulary}}}  # a token is {draft.bytes_per_token:.2f} bytes",
    ]


def _training(draft: Draft) -> list[str]:
    config, programme = draft.config, Programme.unbuilt(draft.config)
    training, ladder, target = config.training, config.ladder, programme.size(config.model)
    sizes = ", ".join(human(programme.size(shape).params) for shape in ladder.shapes)
    ratio = config.budget / target.params
    few = " That is few: expect poor text. More text, or more --minutes, helps." if ratio < TOKENS_PER_PARAMETER else ""
    return [
        *_comment(
            f"The target has {human(target.params)} parameters, with {ratio:.2g} tokens for each.{few} It is the "
            f"largest of some shapes that has {TOKENS_PER_PARAMETER} or more, else the smallest."
        ),
        f"model: {{hidden: {config.model.hidden}, layers: {config.model.layers}}}",
        "training:",
        f"  sequence_length: {training.sequence_length}",
        f"  global_batch_size: {training.global_batch_size}  # sequences: a budget is about {STEPS} batches",
        f"  micro_batch_size: {training.micro_batch_size}  # sequences that a worker holds at once",
        f"  warmup_tokens: {training.warmup_tokens:_}  # about 2 % of the ladder's smallest D, at least a batch",
        "ladder:",
        *_comment(
            f"Five sizes, of {sizes} parameters. They are {target.hidden // target.layers} times as wide as deep, like "
            "the target, so that one law holds for all.",
            "  ",
        ),
        "  shapes:",
        *(f"    - {{hidden: {shape.hidden}, layers: {shape.layers}}}" for shape in ladder.shapes),
        f"  pretrain_tokens: {_counts(ladder.pretrain_tokens)}  # D: four, the largest beyond half of the budget",
        f"  specialize_tokens: {_counts(ladder.specialize_tokens)}  # D': the least tells what the first tokens bring",
        f"  domains: {ladder.domains}  # so many of the K have runs with D'",
        f"  seeds: {ladder.seeds}  # of the smallest size: with one, intervals are too narrow",
        f"  max_share: {ladder.max_share:g}  # the ladder may cost so many times the budget's FLOPs",
    ]


def _counts(numbers: list[int]) -> str:
    return "[" + ", ".join(f"{number:_}" for number in numbers) + "]"


def _rest(draft: Draft) -> list[str]:
    search, resources = draft.config.search, draft.config.resources
    assert isinstance(resources.tokens_per_second, int | float), "the speed was measured"
    tried = f"{{at: {search.at}, trials_per_round: {search.trials_per_round}, max_rounds: {search.max_rounds}"
    return [
        f"search: {tried}, tolerance: {search.tolerance:g}}}  # real splits around the plan",
        "evaluate:",
        f"  validation_tokens: {draft.config.evaluate.validation_tokens}  # of a domain, on which losses are measured",
        "resources:",
        "  # Of a worker with nothing beside it, measured. The dry run reckons its times with it.",
        f"  tokens_per_second: {resources.tokens_per_second:.0f}",
    ]
