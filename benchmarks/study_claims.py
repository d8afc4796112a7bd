"""The claims of a study, each a row of docs/study-proof.md: what was measured, and the verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.proof.verdict import OPEN, Claim, verdict
from splitray.law.planning.estimate import Estimate
from splitray.report import study_words
from splitray.results.study import FILTERED, GENERAL, LOSS_DOMAIN, LOSS_GENERAL, QUALITY
from splitray.results.study_analysis import ArmRegret, StudyAnalysis, StudyCurve
from splitray.results.study_summary import StudySummary
from splitray.units import human

_BEST = "general's best"
Studies = Mapping[str, StudySummary]


def rows(studies: Studies, of_domains: Sequence[ArmRegret]) -> list[Claim]:
    """Every claim, in the order of the page. studies: by domain; of_domains: regret with a domain held out."""
    own = {model for study in studies.values() for model in _own(study)}
    return [
        _efficient(studies),
        _widens(studies),
        _topic(studies),
        _forgets(studies),
        _exams(studies),
        _given(studies),
        _forecast(studies),
        _regret("5. The advice is right about a size that it has not seen", _of_sizes(studies)),
        _regret(
            "5. The advice is right about a domain that it has not seen", [r for r in of_domains if r.model in own]
        ),
        _regret("5. The advice is right about a model from outside", [r for r in of_domains if r.model not in own]),
    ]


def _own(study: StudySummary) -> set[str]:
    """The models that were trained from nothing; the others came from outside."""
    return {c.model for c in study.analysis.curves if c.root != "given"}


def shown(found: Estimate | None, digits: int = 3) -> str:
    """A signed number with its interval."""
    if found is None:
        return "–"
    ends = f" ({found.low:+.{digits}f} to {found.high:+.{digits}f})" if found.low is not None else ""
    return f"{found.value:+.{digits}f}{ends}"


def _open(claim: str) -> Claim:
    return Claim(claim, OPEN, "-", "")


def _efficient(studies: Studies) -> Claim:
    claim = "1. Filtered text needs less compute than general text for the same loss on the domain"
    found = [(d, r) for d, s in studies.items() for r in study_words.main_ratios(s.analysis) if r.model in _own(s)]
    if not found:
        return _open(claim)
    above = sum(r.low is not None and r.low > 1 for _, r in found)
    fair = sum((r.ratio.low or 0.0) > 1 for _, r in found)
    table = [["domain", "model", "parameters", "ratio of compute", "95 % interval"]]
    table += [[d, r.model, human(r.params), study_words.ratio(r), study_words.ratio_bounds(r) or "–"] for d, r in found]
    details = (
        "The level is what general text has at its end. Intervals are over seeds. A ratio is a bound where an arm is "
        "there at its first snapshot, or never."
    )
    figure = f"interval above 1 for {above} of {len(found)} models"
    return Claim(claim, verdict(above == len(found), fair > len(found) / 2), figure, "", details, table)


def _widens(studies: Studies) -> Claim:
    claim = "2. The gap widens with the size of the model"
    found = [
        (d, s)
        for d, study in studies.items()
        for s in study.analysis.slopes
        if s.arm == FILTERED and s.named == _BEST and not s.measure.startswith("bits/")
    ]
    main = [s for _, s in found if s.measure == LOSS_DOMAIN]
    if not main:
        return _open(claim)
    table = [["domain", "measure", "power of N (95 %)", "sizes, of them bounds", "left-out sizes predicted"]]
    for domain, s in found:
        inside = [left.inside for left in s.left_out if left.inside is not None]
        predicted = f"{sum(inside)} of {len(inside)}" if inside else "–"
        told = study_words.slope(s.slope) if s.slope is not None else s.reason
        table.append([domain, s.measure, told, f"{s.sizes}, {s.censored}", predicted])
    slopes = [s.slope for s in main]
    sure = all(s is not None and s.low is not None and s.low > 0 for s in slopes)
    fair = any(s is not None and s.value > 0 for s in slopes)
    by_law = [
        f"{study_words.slope(s.analysis.surface.slopes[FILTERED])} on {d}"
        for d, s in studies.items()
        if s.analysis.surface is not None and FILTERED in s.analysis.surface.slopes
    ]
    details = "The slope is that of log ratio against log N, with bounds as bounds. " + (
        f"By the law's surface it is {'; '.join(by_law)}." if by_law else ""
    )
    figure = "; ".join(study_words.slope(s) if s is not None else "not known" for s in slopes)
    return Claim(claim, verdict(sure, fair), figure, "", details.strip(), table)


def _topic(studies: Studies) -> Claim:
    claim = "3. It is the topic that helps, not the quality of the text"
    table = [["domain", "model", "filtered less quality-only, nats per token", "quality-only less general"]]
    gaps = []
    for domain, study in studies.items():
        curves = _curves(study.analysis, LOSS_DOMAIN)
        for model in dict.fromkeys(m for m, _ in curves):
            three = [curves.get((model, arm)) for arm in (FILTERED, QUALITY, GENERAL)]
            if any(c is None for c in three):
                continue
            filtered, quality, general = (c.best.value for c in three if c is not None)
            gaps.append((filtered.high is not None and quality.low is not None and filtered.high < quality.low,
                         filtered.value < quality.value))  # fmt: skip
            table.append([domain, model, f"{filtered.value - quality.value:+.3f}",
                          f"{quality.value - general.value:+.3f}"])  # fmt: skip
    if not gaps:
        return _open(claim)
    told, lower = (sum(column) for column in zip(*gaps, strict=True))
    details = "The control keeps as many bytes by quality alone. Told apart: the 95 % intervals do not touch."
    figure = f"lower loss for {lower} of {len(gaps)} models, told apart for {told}"
    return Claim(claim, verdict(told == len(gaps), lower > len(gaps) / 2), figure, "", details, table)


def _forgets(studies: Studies) -> Claim:
    claim = "4. Filtered text costs less of the general ability, since it needs fewer tokens"
    table = [
        ["domain", "model", "general text, change", "filtered text, change", "filtered, where it is as good as general"]
    ]
    at_end, at_level = [], []
    for domain, study in studies.items():
        forgot = {(f.model, f.arm): f for f in study.analysis.forgetting}
        for (model, arm), row in forgot.items():
            general = forgot.get((model, GENERAL))
            if arm != FILTERED or general is None or model not in _own(study):
                continue
            early = _at_level(study.analysis, model, row.before)
            at_end.append(row.difference.value - general.difference.value)
            if early is not None:
                at_level.append(early - general.difference.value)
            said = "–" if early is None else f"{early:+.3f}"
            table.append([domain, model, shown(general.difference), shown(row.difference), said])
    if not at_end:
        return _open(claim)
    details = (
        "Changes of the loss on general text, in nats per token; above 0 is forgotten. The last column is at "
        "the compute with which filtered text has the domain loss that general text ends with, read off between "
        "snapshots. Where that is before the first snapshot there is none."
    )
    figure = f"at equal compute {np.mean(at_end):+.3f} nats beside general text" + (
        f", at equal domain loss {np.mean(at_level):+.3f}" if at_level else ""
    )
    good = bool(at_level) and max(at_level) < 0 and max(at_end) < 0
    fair = bool(at_level) and float(np.mean(at_level)) < 0
    return Claim(claim, verdict(good, fair), figure, "", details, table)


def _at_level(analysis: StudyAnalysis, model: str, before: float) -> float | None:
    """The change of general loss of the filtered arm once it has the level; None where no snapshots are around it."""
    reached = next((r.other for r in study_words.main_ratios(analysis) if r.model == model), None)
    curve = _curves(analysis, LOSS_GENERAL).get((model, FILTERED))
    if reached is None or curve is None or not reached.exact or reached.low is None:
        return None
    points = [p for p in curve.points if p.tokens]
    logs = np.log([p.flops for p in points])
    return float(np.interp(np.log(reached.low), logs, [p.value.value for p in points])) - before


def _curves(analysis: StudyAnalysis, measure: str) -> dict[tuple[str, str], StudyCurve]:
    return {(c.model, c.arm): c for c in analysis.curves if c.measure == measure}


def _exams(studies: Studies) -> Claim:
    claim = "4. The domain's exams show it too"
    table = [["domain", "exam", "models", "nats per byte, filtered less general", "told lower", "told higher",
              "accuracy, filtered less general"]]  # fmt: skip
    lower = higher = of = 0
    for domain, study in studies.items():
        for exam in dict.fromkeys(r.exam for r in study.analysis.exams):
            rows = [r for r in study.analysis.exams if r.exam == exam and r.arm == FILTERED]
            gaps = [r.to_general for r in rows if r.to_general is not None]
            correct = [r.accuracy_to_general.value for r in rows if r.accuracy_to_general is not None]
            if not gaps:
                continue
            below = sum(g.high is not None and g.high < 0 for g in gaps)
            above = sum(g.low is not None and g.low > 0 for g in gaps)
            lower, higher, of = lower + below, higher + above, of + len(gaps)
            table.append([domain, exam, str(len(gaps)), _range([g.value for g in gaps]), str(below), str(above),
                          _range(correct)])  # fmt: skip
    if not of:
        return _open(claim)
    details = (
        "Nats per byte of the right answer, paired by question and seed, at the snapshot that validation text "
        "chose. Accuracy stands beside it and decides nothing. Exams on other subjects show the cost outside."
    )
    figure = f"told lower in {lower} of {of} cases, told higher in {higher}"
    return Claim(claim, verdict(lower > 0.9 * of, lower > higher), figure, "", details, table)


def _range(found: Iterable[float]) -> str:
    held = list(found)
    return " to ".join(dict.fromkeys(f"{end:+.3f}" for end in (min(held), max(held)))) if held else "–"


def _given(studies: Studies) -> Claim:
    claim = "1. That is so for a model from outside too"
    table = [["domain", "model", "tokens", "before", "general text", "filtered text", "ratio of compute",
              "change on general text: by general, by filtered"]]  # fmt: skip
    gaps = []
    for domain, study in studies.items():
        curves = _curves(study.analysis, LOSS_DOMAIN)
        ratios = {r.model: study_words.ratio(r) for r in study_words.main_ratios(study.analysis)}
        forgot = {(f.model, f.arm): shown(f.difference) for f in study.analysis.forgetting}
        for (model, arm), curve in curves.items():
            general = curves.get((model, GENERAL))
            if arm != FILTERED or model in _own(study) or general is None:
                continue
            ours, theirs, start = curve.points[-1], general.points[-1], curve.points[0]
            gaps.append(ours.value.value - theirs.value.value)
            before = f"{start.value.value:.3f}" if start.tokens == 0 else "–"
            table.append([domain, model, human(ours.tokens), before, f"{theirs.value.value:.3f}",
                          f"{ours.value.value:.3f}", ratios.get(model, "–"),
                          ", ".join(forgot.get((model, by), "–") for by in (GENERAL, FILTERED))])  # fmt: skip
    if not gaps:
        return _open(claim)
    details = (
        "Loss on the domain's text in nats per token, of the model's own tokenizer, at the most tokens. A model "
        "that was quantised or tuned to chat is also mended by any text, so both arms are held against each other. "
        "Its change on general text has that mending in it too: below 0 it became better."
    )
    figure = f"filtered less general {_range(gaps)} nats"
    # one seed supports a claim in part
    return Claim(claim, verdict(False, max(gaps) < 0), figure, "", details, table)


def _forecast(studies: Studies) -> Claim:
    claim = "5. The law forecasts a size that was held out"
    found = [(d, f.forecast, f.score) for d, s in studies.items() for f in s.forecasts if f.score is not None]
    if not found:
        return _open(claim)
    table = [["domain", "parameters", "losses", "off by", "mean miss, nats", "in their 80 % interval",
              "differences off, nats", "best arm right"]]  # fmt: skip
    for domain, made, score in found:
        differences = "–" if score.differences is None else f"{score.differences:.4f}"
        right = "–" if score.best_arm_right is None else "yes" if score.best_arm_right else "no"
        miss = np.mean([p.measured - p.predicted.value for p in score.points])
        table.append([domain, human(made.params), str(len(score.points)), f"{score.relative:.2%}", f"{miss:+.3f}",
                      f"{score.inside:.0%}", differences, right])  # fmt: skip
    good = all(score.relative < 0.02 and score.inside >= 0.6 and score.best_arm_right for _, _, score in found)
    fair = all(score.relative < 0.05 for _, _, score in found)
    details = (
        "Sealed before the size was continued, from the other sizes and from the size's loss before. It holds where "
        "losses are within 2 %, at least 60 % of them in their intervals, and the best arm is right. In part is within "
        "5 %. A mean miss far above the error of the differences is a shift of the size's level, which all arms share."
    )
    figure = ", ".join(
        f"{score.relative:.2%} off on {d}, {score.inside:.0%} in their intervals" for d, _, score in found
    )
    return Claim(claim, verdict(good, fair), figure, "", details, table)


def _of_sizes(studies: Studies) -> list[ArmRegret]:
    return [replace(r, held_out=f"{r.held_out} of {domain}") for domain, s in studies.items() for r in s.regrets]


def _by_model(found: Sequence[ArmRegret]) -> dict[tuple[str, str], list[ArmRegret]]:
    groups: dict[tuple[str, str], list[ArmRegret]] = {}
    for r in found:
        groups.setdefault((r.held_out, r.model), []).append(r)
    return groups


def _mean_regret(found: Iterable[ArmRegret], rule: str) -> float | None:
    values = [v for r in found if (v := r.regret[rule]) is not None]
    return float(np.mean(values)) if values else None


def _regret(claim: str, found: Sequence[ArmRegret]) -> Claim:
    if not found:
        return _open(claim)
    rules = list(found[0].regret)
    table = [["held out", "model", "FLOPs", "advised", "best", *rules]]
    for (held_out, model), group in _by_model(found).items():
        values = ["–" if (v := _mean_regret(group, rule)) is None else f"{v:.4f}" for rule in rules]
        budgets = " to ".join(dict.fromkeys(human(r.flops) for r in (group[0], group[-1])))
        said = (", ".join(dict.fromkeys(names)) for names in ([r.advised for r in group], [r.best for r in group]))
        table.append([held_out, model, budgets, *said, *values])
    means = {rule: mean for rule in rules if (mean := _mean_regret(found, rule)) is not None}
    ours, *others = means.values()
    details = (
        "Regret is the loss of the arm that a rule takes, less that of the best measured arm, in nats per token. A "
        f"row has the mean over {max(map(len, _by_model(found).values()))} budgets."
    )
    simple = list(means.items())[1:]
    if better := [rule for rule, value in simple if value < ours]:
        details += f" The rule to {' and to '.join(better)} does better here."
    if easy := [rule for rule, value in simple if value == ours]:
        details += f" The rule to {' and to '.join(easy)} does as well here, so these cases do not tell them apart."
    figure = ", ".join(f"{rule} {value:.4f}" for rule, value in means.items()) + " nats on average"
    return Claim(claim, verdict(ours <= min(others) and ours < 0.005, ours <= min(others)), figure, "", details, table)
