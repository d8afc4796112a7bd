"""What a run has come to, typed: where its files lie, the plan, the losses, every number."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from splitray.law.law import Law
from splitray.law.planning.plan import Plan
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.results.evaluation import Compared, EvaluationResult
from splitray.results.stages import BaseResult, ReportResult, SpecialistsResult
from splitray.results.summary import Summary
from splitray.storage.redact import without_query
from splitray.units import human


@dataclass(frozen=True)
class RunResult:
    """What a run has come to. What a stage makes that has not run is None or empty.

    Attributes:
        run_dir: path or URI of the run folder.
        store: path or URI of the store of segments.
        done: the stages that are done, in order.
        law: the law that the plan was made from, refitted after the search.
        plan: the plan that is carried out; after the search the one that it settled.
        losses: measured losses of every strategy at equal tokens, in nats per token.
        base: path or URI of the finished base, for use; None where the plan splits at zero.
        trunk: path or URI of the base before its decay, to continue training from; None where nothing continues.
        specialists: path or URI of every exported specialist, by domain.
        router: path or URI of the router, which `splitray.Router.load` opens; None in folders of the first release.
        report: path or URI of the report's page.
        figures: path or URI of every figure of the report as PNG, by name.
        summary: every number of the run, as in `summary.json`.
    """

    run_dir: str
    store: str
    done: tuple[str, ...]
    law: Law | None = None
    plan: Plan | None = None
    losses: tuple[Compared, ...] = ()
    base: str | None = None
    trunk: str | None = None
    specialists: Mapping[str, str] = field(default_factory=dict)
    router: str | None = None
    report: str | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    summary: Summary | None = field(default=None, repr=False)

    @classmethod
    def of(cls, run: RunFolder, store: str, until: str) -> "RunResult":
        """Read what a run folder holds up to a stage.

        Raises:
            CorruptError: a file is not what its stage has written.
        """
        records = {stage: run.done(stage) for stage in STAGES[: STAGES.index(until) + 1]}
        results = {stage: record.result for stage, record in records.items() if record is not None}
        shared, specialists, evaluation, report = (
            results.get(stage) for stage in ("base", "specialists", "evaluate", "report")
        )
        finished = evaluation.base if isinstance(evaluation, EvaluationResult) else None
        ending = "_final" if "search" in results else ""
        drawn = (run.folder / "report/figures").names() if report is not None else []
        folder = run.folder.uri
        return cls(
            run_dir=folder,
            store=without_query(store),
            done=tuple(results),
            law=run.kept(f"law{ending}.json", Law.load) if "law" in results else None,
            plan=run.kept(f"plan{ending}.json", Plan.load) if "plan" in results else None,
            losses=_compared(results.get("evaluate")),
            base=f"{folder}/{finished.path}" if finished else None,
            trunk=f"{folder}/{shared.path}" if isinstance(shared, BaseResult) and shared.path else None,
            specialists={s.domain: f"{folder}/{s.path}" for s in specialists.specialists}
            if isinstance(specialists, SpecialistsResult)
            else {},
            router=f"{folder}/{specialists.router}"
            if isinstance(specialists, SpecialistsResult) and specialists.router
            else None,
            report=f"{folder}/{report.path}" if isinstance(report, ReportResult) else None,
            figures={n.removesuffix(".png"): f"{folder}/report/figures/{n}" for n in drawn if n[-4:] == ".png"},
            summary=Summary.parse(run.folder.read_checksummed("summary.json"))
            if run.folder.exists("summary.json")
            else None,
        )

    def __str__(self) -> str:
        lines = [f"run folder {self.run_dir}, done: {', '.join(self.done) or 'nothing'}"]
        if self.plan is not None:
            fraction = self.plan.split_fraction
            between = "" if fraction.low is None else f" ({fraction.low:.0%} to {fraction.high:.0%})"
            where = f"split after {fraction.value:.0%}" if fraction.value < 1 else "do not split"
            lines.append(f"plan: {where}{between} of {human(self.plan.budget)} tokens")
        lines += [f"{loss.strategy}: {loss.loss:.4f} nats per token" for loss in self.losses]
        if self.base is not None:
            lines.append(f"base, to use: {self.base}")
        if self.trunk is not None:
            lines.append(f"trunk, to continue training from: {self.trunk}")
        if self.report is not None:
            lines.append(f"report: {self.report}")
        return "\n".join(lines)


def _compared(result: object) -> tuple[Compared, ...]:
    return result.comparison if isinstance(result, EvaluationResult) else ()
