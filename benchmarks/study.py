"""The study's results and docs/study-proof.md, from the run folders of finished studies.

    python -m benchmarks.study --run law=runs/legal --run medicine=runs/medicine
    python -m benchmarks.study                       # the page again, from the committed results alone

Each run leaves `NAME.json`, every number of its page, and `NAME.csv`, the table of its measures, in
benchmarks/results/study. With two runs each domain is also held out from the law of the other.
"""

import argparse
import csv
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import fill

from matplotlib.figure import Figure

from benchmarks.proof.verdict import OPEN
from benchmarks.study_claims import rows
from splitray.errors import UserError
from splitray.report import study_captions, study_figures
from splitray.report.style import png, styled
from splitray.results.codec import from_json, to_json
from splitray.results.study import LOSS_DOMAIN, StudyRun, read
from splitray.results.study_analysis import ArmRegret, StudyAnalysis
from splitray.results.study_summary import StudySummary
from splitray.study.analysis.regret import regret
from splitray.study.analysis.tables import StudyTable
from splitray.units import counted, human

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/study", ROOT / "docs/study-proof.md"
DOMAINS = "held-out-domains.json"
FIGURES: Mapping[str, tuple[Callable[[StudyAnalysis], Figure | None], Callable[[StudySummary], str]]] = {
    "curves": (study_figures.curves, study_captions.curves),
    "gap": (study_figures.gap, study_captions.gap),
    "forgetting": (study_figures.forgetting, study_captions.forgetting),
}


def collect(runs: Mapping[str, Path], results: Path) -> None:
    """Take the numbers of finished studies, by domain, into the results; and hold out each domain from the others."""
    results.mkdir(parents=True, exist_ok=True)
    for domain, folder in runs.items():
        summary = StudySummary.parse(json.loads((folder / "study.json").read_text()), str(folder / "study.json"))
        _write(results / f"{domain}.json", replace(summary, config={}).plain())  # the config has paths of a machine
        table = read(StudyRun, folder / "study.parquet")
        with (results / f"{domain}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(asdict(table[0])), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in table)
    tables = {path.stem: StudyTable(_losses(path)) for path in sorted(results.glob("*.csv"))}
    found: list[ArmRegret] = []
    for known, unseen in itertools.permutations(tables, 2):
        try:
            found += regret(tables[known], tables[unseen], f"{unseen}, from {known}")
        except UserError as error:  # too few sizes, or one arm alone
            print(f"{unseen} is not held out from {known}: {error}")
    _write(results / DOMAINS, {"rows": [to_json(row) for row in found]})


def _losses(path: Path) -> list[StudyRun]:
    """Losses on the domain from a committed table: what the law is fitted to."""
    with path.open(newline="") as stream:
        return [
            from_json(StudyRun, {**row, "held_out": row["held_out"] == "True"}, str(path))
            for row in csv.DictReader(stream)
            if row["measure"] == LOSS_DOMAIN
        ]


def _write(path: Path, record: object) -> None:
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def page(results: Path) -> str:
    """The page as Markdown, from the committed results."""
    studies = _studies(results)
    held = json.loads((results / DOMAINS).read_text())["rows"] if (results / DOMAINS).exists() else []
    claims = rows(studies, [from_json(ArmRegret, row, DOMAINS) for row in held])
    parts = [
        "# The study",
        "Does text of a domain pay at a size? Models of several sizes are continued on general text, on filtered text, "
        "and on text that was filtered by quality alone. All arms of a model spend the same compute. "
        "`python -m benchmarks.study` writes this page from its JSON. [What a study finds](study-findings.md) says how "
        "each number is computed.",
        "**Verdicts.** A claim holds where every interval says so. It holds in part where most values do. Negative "
        "findings stand beside the others.",
        _table([["claim", "verdict", "measured"], *([c.claim, c.verdict, c.figure] for c in claims)]),
        "## What was measured",
        *(
            part
            for c in claims
            if c.verdict != OPEN
            for part in (f"**{c.claim}: {c.verdict}.** {c.details}", _table(c.table))
        ),
        "## What was trained",
        *(
            part
            for name, study in studies.items()
            for part in (_trained(name, study), *_pictures(name, study, results))
        ),
        *(_limits(name, study) for name, study in studies.items() if study.analysis.warnings),
    ]
    filled = (part if part.startswith(("|", "![")) else fill(part, 120, break_on_hyphens=False) for part in parts)
    return "\n\n".join(filled) + "\n"


def draw(results: Path) -> None:
    """The figures of every study, from the committed results."""
    for name, study in _studies(results).items():
        with styled():
            for kind, (figure, _) in FIGURES.items():
                if (drawn := figure(study.analysis)) is not None:
                    (results / f"{name}-{kind}.png").write_bytes(png(drawn))


def _studies(results: Path) -> dict[str, StudySummary]:
    """The committed studies, by domain."""
    names = sorted(path.stem for path in results.glob("*.csv"))
    return {n: StudySummary.parse(json.loads((results / f"{n}.json").read_text()), f"{n}.json") for n in names}


def _pictures(name: str, study: StudySummary, results: Path) -> list[str]:
    """Links to the figures that there are, each with what it shows."""
    found = []
    for kind, (_, caption) in FIGURES.items():
        if (results / f"{name}-{kind}.png").exists():
            told = f"{name.capitalize()}. {caption(study)}"
            found += [f"![{kind.capitalize()} of {name}](../benchmarks/results/study/{name}-{kind}.png)", told]
    return found


def _table(body: Sequence[Sequence[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in body)
    return "\n".join([head, "|" + "---|" * len(body[0]), *rest])


def _trained(name: str, study: StudySummary) -> str:
    curves = [c for c in study.analysis.curves if c.measure == LOSS_DOMAIN]
    sizes = {c.model: c for c in curves}
    models = ", ".join(f"{m} ({human(c.params)})" for m, c in sizes.items())
    seeds = sorted({p.seeds for c in curves for p in c.points})
    points = {len([p for p in c.points if p.tokens]) for c in curves}
    text = (
        f"**{name}.** {counted(len(sizes), 'model')}: {models}. "
        f"Arms: {', '.join(dict.fromkeys(c.arm for c in curves))}. "
        f"Seeds: {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}. Snapshots of a line: "
        f"{' to '.join(map(str, dict.fromkeys((min(points), max(points)))))}, each decayed, up to "
        f"{human(max(p.tokens for c in curves for p in c.points))} tokens."
    )
    if (made := study.filter) is not None:
        topic = made.filter
        leaks = ", ".join(f"{how} {count}" for how, count in made.contaminated.items())
        text += (
            f" The filter is {topic.classifier}: precision {topic.precision:.3f} and recall {topic.recall:.3f} on "
            f"{topic.held_out} held-out documents, calibration error {topic.calibration_error:.3f}. Documents that "
            f"share text with exams and were left out: {leaks or 'none'}."
        )
    return text


def _limits(name: str, study: StudySummary) -> str:
    return f"**Limits on {name}.** " + " ".join(study.analysis.warnings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="DOMAIN=FOLDER", help="a finished study")
    given = parser.parse_args()
    if given.run:
        collect({name: Path(folder) for name, _, folder in (run.partition("=") for run in given.run)}, RESULTS)
        draw(RESULTS)
    PAGE.write_text(page(RESULTS), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
