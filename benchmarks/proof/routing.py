"""Specialists whose domain nobody names, on the decisive budget line: five ways to choose, other K, and exams."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixture_table import BEST, GATE, KNOWN, LENGTHS, NEAREST, Table, fill, losses, promise
from benchmarks.proof.bench import Bench
from benchmarks.proof.forecast import of_line
from benchmarks.proof.programme import Cell
from splitray import law as laws
from splitray.corpus.tokenizer import Encoder
from splitray.evaluate.exams.questions import Exam, read_exam
from splitray.evaluate.exams.scoring import compare, detectable, grade, score_exam
from splitray.evaluate.loss import Validation, validation_groups
from splitray.evaluate.mixture import OPEN, STAY, Gate, Mixture, TopPrior
from splitray.evaluate.mixture.prior import RouterPrior, fit_prior
from splitray.results.evaluation import UNSPLIT
from splitray.results.folders import BASE
from splitray.training.split import whole_budget
from splitray.training.tree import Leaf

EXAMS = ("arc_easy", "sciq", "piqa", "openbookqa", "copa", "pubmed_qa", "oab_pt")
_SMALL = (294_912, 98_304)  # D and D' of the ladder's smallest models, by which a prefix chooses


@dataclass(frozen=True)
class Line:
    """The models of the decisive line at one K, all of a fresh seed: the bowl's own runs made the choice.

    Attributes:
        specialists: by domain, in the corpus's order.
        small: the ladder's smallest model of each domain.
    """

    fraction: float
    specialists: tuple[Cell, ...]
    base: Cell
    unsplit: Cell
    small: tuple[Cell, ...]

    @property
    def cells(self) -> list[Cell]:
        return [*self.specialists, self.base, self.unsplit, *self.small]


def planned_line(bench: Bench, folder: Path) -> Line | None:
    """The line at the split that was planned for it; None where the plan is not to split.

    The proof's own K has a forecast. For another K, the same law plans.
    """
    shape, budget, wide = bench.programme.wide
    domains, seed, batch = bench.corpus.domains, bench.programme.fresh[0], bench.programme.batch
    whole = whole_budget(budget, len(domains), batch)
    held = of_line(folder / "forecasts", shape, budget)
    if held is not None and held[0]["budget"] == whole and len(domains) == bench.programme.config.corpus.domains:
        fraction = held[0]["plan"]["split_fraction"]["value"]
    else:
        params = int(bench.recipe(Cell(shape, Leaf(whole), tuple(domains), seed)).params)
        law = laws.Law.load(folder / "law.json")
        fraction = laws.plan(law, params=params, budget=whole, domains=len(domains)).split_fraction.value
    cells = tuple(bench.programme.line(shape, budget, [fraction], domains, wide, seed))
    if len(cells) < len(domains):
        return None
    (unsplit,) = bench.programme.line(shape, budget, [1.0], domains, wide, seed)
    base = replace(unsplit, leaf=Leaf(cells[0].leaf.pretrain_tokens))
    smallest = bench.programme.config.ladder.shapes[0]
    small = tuple(Cell(smallest, Leaf(*_SMALL, domain), (domain,)) for domain in domains)
    return Line(fraction, cells, base, unsplit, small)


def mixture_of(bench: Bench, line: Line) -> Mixture:
    """Specialists and finished base as one model, with the router's prior."""
    models = {str(cell.leaf.domain): bench.model(cell) for cell in line.specialists}
    assert list(models) == bench.corpus.router().domains, "the prior's weights are in the router's order"
    prior = fit_prior(bench.corpus, bench.programme.config.evaluate.prefix_characters)
    return _mixture(bench, models | {BASE: bench.model(line.base)}, prior)


def _mixture(bench: Bench, models: dict[str, Any], prior: RouterPrior | None = None) -> Mixture:
    length = bench.programme.config.training.sequence_length
    return Mixture(models, Encoder(bench.corpus.tokenizer_path()), length, prior)


def choices(bench: Bench, line: Line, mixture: Mixture) -> dict[str, Any]:
    """All ways to choose over every validation document that the proof scores; see `mixture_table`."""
    corpus, limit = bench.corpus, bench.programme.config.evaluate.validation_tokens
    texts, groups = dict[str, list[str]](), dict[str, list[str]]()
    for domain in corpus.domains:
        count = Validation.of(corpus, domain, limit).documents
        texts[domain] = corpus.documents(domain, "validation")["text"].to_pylist()[:count]
        groups[domain] = validation_groups(corpus, domain)[:count].tolist()
    nats = losses(mixture, texts)
    table = Table(mixture, texts, nats)
    small = [_mixture(bench, {str(cell.leaf.domain): bench.model(cell)}) for cell in line.small]
    fill(table, small, f"the ladder's models of {bench.recipe(line.small[0]).params:,} parameters", [Gate()])
    table.scored_by(UNSPLIT, _mixture(bench, {UNSPLIT: bench.model(line.unsplit)}))
    return {
        "documents": {domain: len(each) for domain, each in texts.items()},
        "documents_by_length": table.counts(),
        "classes_of_length": list(LENGTHS),
        "rows": [asdict(row) | {"less unsplit": table.less(row.name, UNSPLIT, groups).plain()} for row in table.rows],
        "mixture less known domain": table.less(GATE, KNOWN, groups).plain(),
        **promise(nats),
    }


def exams(bench: Bench, line: Line, mixture: Mixture, folder: Path) -> dict[str, Any]:
    """The choice tasks in `folder` that are there, at most the programme's number of questions of each.

    The mixture, the specialist of the nearest centroid, and for each question the model that holds the right answer for
    likeliest, each less the unsplit model on the same questions. The last needs the answers: it shows what no choice
    of a single model can pass.
    """
    prior = mixture.prior
    assert isinstance(prior, RouterPrior)
    models = dict(zip(mixture.names, mixture.models, strict=True))
    nearest = TopPrior(prior, 1, len(models) - 1)
    takers = {
        "mixture": mixture,
        NEAREST: Mixture(models, mixture.encoder, mixture.max_length, nearest, OPEN, STAY),
        UNSPLIT: _mixture(bench, {UNSPLIT: bench.model(line.unsplit)}),
    }
    found = {}
    for path in (folder / f"{name}.jsonl" for name in EXAMS):
        if not path.exists():
            continue
        exam = read_exam(path, most=bench.programme.questions)
        nats = {name: score_exam(taker, exam) for name, taker in takers.items()}
        nats[BEST] = _best_by_question(exam, [score_exam(_mixture(bench, {n: m}), exam) for n, m in models.items()])
        scores = {name: grade(exam, own) for name, own in nats.items()}
        found[exam.name] = {
            "questions": len(exam.questions),
            "chance": exam.chance,
            "detectable": detectable(exam),
            "takers": {name: {m: e.plain() for m, e in own.means().items()} for name, own in scores.items()},
            "less unsplit": {
                name: {m: e.plain() for m, e in compare(own, scores[UNSPLIT]).items()}
                for name, own in scores.items()
                if name != UNSPLIT
            },
        }
        print(exam.name, found[exam.name]["less unsplit"], flush=True)
    return found


def _best_by_question(exam: Exam, by_model: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    """Losses of every choice, of each question by the model with the least loss of its right answer."""
    return [
        min(every, key=lambda nats: float(nats[question.answer]))
        for question, *every in zip(exam.questions, *by_model, strict=True)
    ]


def lines_by_domains(bench: Bench) -> Sequence[tuple[int, Bench]]:
    """The bench at its own K, then on the same documents in fewer and in more domains."""
    own = bench.programme.config.corpus.domains
    return [(own, bench), *((int(v.domains or own), bench.on(v)) for v in bench.programme.other_domains)]
