"""`TRAINING_CONTENT.md`: what the models of a run were trained on, in the fields that two laws ask for.

The first part follows the template for the public summary of training content under Article 53(1)(d) of the EU's AI
Act, Regulation (EU) 2024/1689. The second follows California's AB 2013, Civil Code section 3111(a). What a run cannot
know is marked for the publisher. Nothing here is legal advice.
"""

from splitray.export.facts import BLANK, RunFacts, table
from splitray.units import human

_RANGES = ((1e9, "less than 1 billion tokens"), (1e13, "1 billion to 10 trillion tokens"))


def write_training_content(run: RunFacts) -> str:
    """The summary of a run's training content."""
    return (
        "\n\n".join(
            [
                f"# Training content of {run.summary.name}",
                "splitray has filled in what the run knows. What only the publisher knows is marked "
                f"{BLANK}. Whether a law applies, and whether these answers satisfy it, is for the publisher to judge.",
                *_europe(run),
                *_california(run),
                "## The data in numbers",
                _numbers(run),
            ]
        )
        + "\n"
    )


def _europe(run: RunFacts) -> list[str]:
    summary = run.summary
    tokens = sum(d.train.tokens for d in summary.domains)
    train = human(sum(d.train.bytes for d in summary.domains))
    size = next((words for limit, words in _RANGES if tokens < limit), "more than 10 trillion tokens")
    root = summary.config["model"].get("path")
    depends = f"the weights that the training continued from; their name: {BLANK}" if root else "none: from scratch"
    general = [
        ("1.1", "Provider, and its authorised representative", BLANK),
        ("1.2", "Versioned name of the model", f"{summary.name}, of {summary.created}"),
        ("1.2", "Models that it depends on", depends),
        ("1.2", "Date of placing on the Union market", BLANK),
        ("1.3", "Modality", "text"),
        ("1.3", "Size of the training data", f"{size}: {tokens:,} tokens, {train} bytes of text"),
        ("1.3", "Types of content", BLANK),
        ("1.3", "Latest date of acquisition or collection", f"not after {summary.created[:10]}; exact date: {BLANK}"),
        ("1.3", "Languages, and other characteristics", BLANK),
    ]
    hub = ", ".join(f"`{name}`" for name in run.datasets)
    sources = [
        ("2.1", "Publicly available datasets", f"{hub}; others: {BLANK}" if hub else BLANK),
        ("2.2.1", "Datasets licensed from rightsholders", BLANK),
        ("2.2.2", "Private datasets from other third parties", BLANK),
        ("2.3", "Data crawled and scraped from online sources", f"splitray crawls nothing; in the sources: {BLANK}"),
        ("2.4", "User data", BLANK),
        ("2.5", "Synthetic data", f"splitray generates none; in the sources: {BLANK}"),
        ("2.6", "Other sources", BLANK),
    ]
    processing = [
        ("3.1", "Respect of rights reserved from text and data mining", BLANK),
        ("3.2", "Removal of illegal content", f"splitray removes none; before: {BLANK}"),
        ("3.3", "Other processing", _processing(run)),
    ]
    head = ("section", "field", "answer")
    return [
        "## European Union: AI Act, Article 53(1)(d)",
        "### 1. General information",
        table(head, general),
        "### 2. List of data sources",
        f"The run read: {'; '.join(run.sources)}. Which of these kinds they are:",
        table(head, sources),
        "### 3. Data processing",
        table(head, processing),
    ]


def _california(run: RunFacts) -> list[str]:
    summary = run.summary
    documents = sum(d.train.documents + d.validation.documents for d in summary.domains)
    answers = [
        ("1", "Sources or owners of the datasets", f"{'; '.join(run.sources)}; owners: {BLANK}"),
        ("2", "How the datasets further the intended purpose", BLANK),
        ("3", "Number of data points", f"{documents:,} documents, {_bytes(run)} of text"),
        ("4", "Types of data points", _types(run)),
        ("5", "Protected by copyright, trademark or patent, or in the public domain", BLANK),
        ("6", "Purchased or licensed", BLANK),
        ("7", "Personal information (Civil Code 1798.140(v))", BLANK),
        ("8", "Aggregate consumer information (1798.140(b))", BLANK),
        ("9", "Cleaning, processing or other modification, and its purpose", _processing(run)),
        ("10", "Period of collection, and whether it goes on", BLANK),
        ("11", "When the datasets were first used in development", f"by {summary.created[:10]} in this run; {BLANK}"),
        ("12", "Synthetic data generation", f"splitray uses none; in the sources: {BLANK}"),
    ]
    return ["## California: AB 2013, Civil Code 3111(a)", table(("item", "field", "answer"), answers)]


def _processing(run: RunFacts) -> str:
    corpus = run.summary.config["corpus"]
    near = corpus.get("near_duplicate")
    parts = [
        f"documents below {corpus['min_characters']:,} characters were dropped",
        f"longer ones than {corpus['max_characters']:,} were cut at line ends",
        "equal documents were dropped",
    ]
    if near is not None:
        parts.append(f"documents that share {near:.0%} of their text with another were dropped")
    if not run.summary.given:
        parts.append("documents were clustered into domains, for the specialists")
    parts.append(f"{corpus['validation_share']:.1%} of the groups were held out")
    return ", ".join(parts)


def _types(run: RunFacts) -> str:
    count = len(run.summary.domains)
    if run.summary.given:
        return f"documents of text, in {count} domains that the sources name"
    return f"documents of text without labels, in {count} found clusters"


def _bytes(run: RunFacts) -> str:
    return f"{human(sum(d.train.bytes + d.validation.bytes for d in run.summary.domains))} bytes"


def _numbers(run: RunFacts) -> str:
    rows = (
        (d.name, ", ".join(d.top_terms[:8]), d.train.documents, d.train.tokens, d.train.bytes, d.validation.documents)
        for d in run.summary.domains
    )
    skipped = ((f"left out: {reason}", "", count, "", "", "") for reason, count in run.summary.corpus.skipped.items())
    head = ("domain", "terms that tell it", "documents", "tokens", "bytes", "held-out documents")
    return table(head, [*rows, *skipped])
