"""A small result of every stage, for tests of what happens to records and not of what is in them."""

from splitray.law import Law, plan
from splitray.law.planning.estimate import Estimate
from splitray.results.evaluation import (
    Compared,
    Contrast,
    EvaluationResult,
    FinishedBase,
    LossMatrix,
    Resampled,
    Routed,
)
from splitray.results.exams import ExamScore, ExamsResult, ExamTaken
from splitray.results.stages import (
    BaseResult,
    CorpusResult,
    Counts,
    DomainCounts,
    LadderResult,
    LawResult,
    PlanResult,
    ReportResult,
    Searched,
    SearchResult,
    SearchRound,
    Specialist,
    SpecialistsResult,
    StageResult,
    Trial,
    TrialModel,
)

RELEASE = {"E": 1.6, "A": 285.0, "alpha": 0.34, "B": 225.0, "beta": 0.25, "c": 0.046}
RELEASE |= {"lam": 0.14, "delta": 3.9, "p": 0.615, "q": 0.28, "gamma": 0.4}
PLAN = plan(Law.known("release", RELEASE), params=1.3e9, budget=240e9, domains=2)
COUNTS = Counts(90, 9, 400)
TRIAL = Trial(0.25, 1024, 1536.0, 3.25, tuple(TrialModel(d, 1536, 3.25, f"seg-{d}") for d in "ab"), 3.5)

RESULTS: dict[str, StageResult] = {
    "corpus": CorpusResult("corpus-x", tuple(DomainCounts(d, COUNTS, COUNTS) for d in "ab")),
    "ladder": LadderResult(10, 12, 1000, 3000, 3.0, 1),
    "law": LawResult("release"),
    "plan": PlanResult(PLAN),
    "search": SearchResult(
        Searched(1000, 4096, (SearchRound(1, (TRIAL,), Estimate(0.3, 0.2, 0.5), 0.01),), "the limit of 1 rounds"), PLAN
    ),
    "base": BaseResult("trunk", "seg-base", 1024),
    "specialists": SpecialistsResult(
        tuple(Specialist(d, f"specialists/{d}", f"seg-{d}", 1536) for d in "ab"), "router"
    ),
    "evaluate": EvaluationResult(
        LossMatrix(("a", "b"), ("a", "b"), ((1.0, 2.0), (2.0, 1.0)), ((0.5, 1.0), (1.0, 0.5))),
        Routed(1.1, 0.6, 1.0, 0.9, 200, Estimate(-0.4, -0.5, -0.3)),
        (Compared("unsplit", 1.0, 4096, 0.0, 4096, 1.5, 0.7, {"a": 1.0, "b": 2.0}, Estimate(0.0, -0.1, 0.1), 0.5),),
        "a note",
        FinishedBase("base", "seg-finished", 1024),
        contrasts=(Contrast("unsplit", Estimate(-0.1, -0.2, 0.05)),),
        resampled=Resampled(12, 40, {"a": 8, "b": 6}),
    ),
    "exams": ExamsResult(
        (ExamTaken("law", "law.jsonl", "0" * 64, 10, 0, 0.25, 0.38),),
        (ExamScore("law", "base", *(Estimate(0.5, 0.2, 0.8) for _ in range(4))),),
    ),
    "report": ReportResult("report/index.html"),
}
