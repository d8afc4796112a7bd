"""Whether a run folder, or an exported model, is what was written. No Ray, and nothing of the folder is executed.

The key of every model is recomputed from the configuration and the plan, so an edited plan is found even where its
checksums were made anew.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import TypeVar

import yaml

from splitray.config import Config, parse
from splitray.errors import CorruptError, SplitrayError, StorageError, UserError
from splitray.export.check import check_export, key_of
from splitray.law.planning.plan import Plan
from splitray.pipeline.places import places
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.run_folder import stages_of
from splitray.proof.forecast import SCHEMA as FORECAST
from splitray.proof.scoring import SCHEMA as PROOF
from splitray.results.evaluation import EvaluationResult
from splitray.results.exported import ExportRecord, Lineage
from splitray.results.findings import Findings
from splitray.results.folders import CARD, CHECKSUMS, MOE, ROUTER, SPECIALISTS
from splitray.results.ledger import LEDGER
from splitray.results.stages import (
    STAGES,
    BaseResult,
    CorpusResult,
    LadderResult,
    PlanResult,
    SearchResult,
    SpecialistsResult,
    StageRecord,
    StageResult,
)
from splitray.results.summary import Summary
from splitray.storage.checksum import Schema, fingerprint
from splitray.storage.folder import Folder
from splitray.training.recipe import Recipe

R = TypeVar("R", bound=StageResult)
CONFIG, SUMMARY = "config.yaml", "summary.json"
_PROOF = {"forecast.json": FORECAST, "proof.json": PROOF}
_EXECUTED = ("plugins", "trackers")  # a configuration from elsewhere must not import modules here


def verify(folder: Folder) -> Findings:
    """Check a run folder or an exported model.

    Raises:
        UserError: the folder is neither.
    """
    findings = Findings()
    if is_run(folder):
        RunCheck(folder, findings).check()
    elif folder.exists(CARD) or folder.exists(CHECKSUMS):
        if check_export(folder, "", findings) is None and not findings.faults:
            findings.fault(CHECKSUMS, UNCHECKED)
    else:
        raise UserError(
            f"{folder.uri} holds neither {CONFIG} nor {CARD}: give a run folder, or an exported model inside one"
        )
    return findings


def is_run(folder: Folder) -> bool:
    """Whether a folder is a run's."""
    return folder.exists(CONFIG) or folder.exists("stages/corpus.json")


UNCHECKED = "missing: an earlier splitray wrote this folder, and nothing says what its files were; `splitray export` "
UNCHECKED += "writes it anew from the store"


class RunCheck:
    """The check of one run folder; what it has read stands in its attributes afterwards."""

    def __init__(self, folder: Folder, findings: Findings) -> None:
        self.folder, self.findings = folder, findings
        self.config: Config | None = None
        self.records: dict[str, StageRecord] = {}
        self.exports: dict[str, ExportRecord] = {}
        self.models: dict[str, str] = {}  # the key that a folder's model must have
        self.merged: ExportRecord | None = None

    @classmethod
    def of(cls, folder: Folder) -> "RunCheck":
        """A run folder that was checked and found whole.

        Raises:
            UserError: it is no run folder.
            CorruptError: it has faults; the first is named.
        """
        if not is_run(folder):
            raise UserError(f"{folder.uri} is no run folder: it has no {CONFIG}")
        run = cls(folder, Findings())
        run.check()
        run.refuse_faults()
        return run

    def refuse_faults(self) -> None:
        """Raise `CorruptError` for the first of the faults."""
        if faults := self.findings.faults:
            raise CorruptError(
                f"{self.folder.uri} is not what was written: {faults[0]}"
                + (f", and {len(faults) - 1} more faults" if len(faults) > 1 else "")
                + "; splitray verify lists them"
            )

    def check(self) -> None:
        """Do all of it."""
        self._read_config()
        self._read_records()
        self._check_sealed()
        self._check_plans()
        self._check_models()
        self._check_keys()

    def result(self, kind: type[R]) -> R | None:
        """What a stage left; None where its record is missing or damaged."""
        return next((r.result for r in self.records.values() if isinstance(r.result, kind)), None)

    def _read_config(self) -> None:
        try:
            self.config = config_of(self.folder)
            self.findings.records += 1
        except FileNotFoundError:
            self.findings.fault(CONFIG, "missing")
        except SplitrayError as error:
            self.findings.fault(CONFIG, error)

    def _read_records(self) -> None:
        there = [stage for stage in STAGES if self.folder.exists(f"stages/{stage}.json")]
        planned = stages_of(self.config) if self.config is not None else tuple(there)
        wanted = [stage for stage in planned if STAGES.index(stage) <= STAGES.index(there[-1])] if there else []
        for stage in wanted:
            name = f"stages/{stage}.json"
            if stage not in there:
                self.findings.fault(name, f"missing, and the later stage {there[-1]} is done")
                continue
            try:
                record = StageRecord.parse(self.folder.read_checksummed(name), name)
            except (CorruptError, UserError, StorageError) as error:
                self.findings.fault(name, error)
                continue
            self.findings.records += 1
            self.records[stage] = record
            self._check_settings(name, record)
            for file, sha256 in record.files.items():
                self._compare(file, sha256, stage)
        if not there:
            self.findings.fault("stages", "the run has finished no stage")
        elif planned and there[-1] != planned[-1]:
            self.findings.remark(f"the run is not finished: stage {there[-1]} is its last")

    def _check_settings(self, name: str, record: StageRecord) -> None:
        if self.config is None:
            return
        for what, recorded, now in (
            ("identity", record.identity, fingerprint(self.config.identity())),
            ("law and plan", record.refit, fingerprint(self.config.refit())),
        ):
            if recorded not in (None, now):
                self.findings.fault(CONFIG, f"its settings of {what} are not those that {name} was made with")

    def _compare(self, file: str, sha256: str, stage: str) -> None:
        if not self.folder.exists(file):
            self.findings.fault(file, f"missing; stage {stage} left it")
            return
        try:
            self.folder.fetch(file, sha256)
            self.findings.files += 1
        except (CorruptError, StorageError) as error:
            self.findings.fault(file, f"its content has changed since stage {stage}: {error}")

    def _check_sealed(self) -> None:
        """Records with a checksum inside them that no stage names."""
        for name in (self.folder / "ledger").names():
            self._open(f"ledger/{name}", LEDGER)
        for name, schema in _PROOF.items():
            if self.folder.exists(f"proof/{name}"):
                self._open(f"proof/{name}", schema)

    def _open(self, name: str, schema: Schema) -> None:
        try:
            self.folder.read_checksummed(name, schema)
            self.findings.records += 1
        except (CorruptError, UserError, StorageError) as error:
            self.findings.fault(name, error)

    def _check_plans(self) -> None:
        """The plan stands in four places, which must agree."""
        planned, searched = self.result(PlanResult), self.result(SearchResult)
        final = searched.final_plan if searched else None
        if planned is not None:
            self._same_plan("plan.json", planned.plan, "stages/plan.json")
        if final is not None:
            self._same_plan("plan_final.json", final, "stages/search.json")
        if not self.folder.exists(SUMMARY):
            return
        try:
            summary = Summary.parse(self.folder.read_checksummed(SUMMARY), SUMMARY)
        except (CorruptError, UserError) as error:
            self.findings.fault(SUMMARY, error)
            return
        self.findings.records += 1
        first = planned.plan if planned else None
        for name, ours, stage in (("plan", first, "plan"), ("final_plan", final, "search")):
            theirs: Plan | None = getattr(summary, name)
            if ours is not None and theirs is not None and _text(theirs) != _text(ours):
                self.findings.fault(SUMMARY, f"its {name} is not that of stages/{stage}.json: {_first(theirs, ours)}")

    def _same_plan(self, name: str, recorded: Plan, where: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            try:
                written = Plan.load(self.folder.fetch(name))
            except (SplitrayError, ValueError, KeyError, TypeError) as error:
                self.findings.fault(name, error)
                return
            if _text(written) != _text(recorded):
                self.findings.fault(name, f"is not the plan of {where}: {_first(written, recorded)}")

    def _check_models(self) -> None:
        self.models = models_of(self.records)
        for place, key in self.models.items():
            if place != ROUTER:
                self._check_card(place, key)
            self._check_export(place, key)
        known = {place.removeprefix(f"{SPECIALISTS}/") for place in self.models}
        for name in (self.folder / SPECIALISTS).folders():
            if self.result(SpecialistsResult) is not None and name not in known:
                self.findings.fault(f"{SPECIALISTS}/{name}", "no stage has left this model")
        if self.folder.exists(f"{MOE}/{CARD}"):
            self._check_merged()

    def _check_card(self, place: str, key: str) -> None:
        """What an exported model says of itself; without it the folder is no whole model."""
        folder = self.folder / place
        if not folder.exists(CARD):
            self.findings.fault(f"{place}/{CARD}", "missing, so this is no whole model")
            return
        try:
            card = folder.read_json(CARD)
        except CorruptError as error:
            self.findings.fault(f"{place}/{CARD}", error)
            card = {}
        named = card.get("key") if isinstance(card, dict) else None
        if named not in (None, key):
            self.findings.fault(place, f"holds {self._whose(named)}, and must hold {key}")

    def _check_export(self, place: str, key: str) -> None:
        record = check_export(self.folder / place, place, self.findings)
        if record is not None:
            self.exports[place] = record
            if record.key != key:
                self.findings.fault(f"{place}/{CHECKSUMS}", f"is of {self._whose(record.key)}, and must be of {key}")
        elif not self.folder.exists(f"{place}/{CHECKSUMS}"):
            self.findings.fault(f"{place}/{CHECKSUMS}", UNCHECKED)

    def _whose(self, key: object) -> str:
        home = next((place for place, known in self.models.items() if known == key), None)
        return f"the model of {home} ({key})" if home else f"the model {key}"

    def _check_merged(self) -> None:
        self.merged = record = check_export(self.folder / MOE, MOE, self.findings)
        for place, key in (record.sources if record else {}).items():
            if self.models.get(place) != key:
                self.findings.fault(MOE, f"was merged from {place} = {key}, which is not this run's model of that name")

    def _lineage(self) -> Lineage | None:
        return next((r.lineage for place, r in self.exports.items() if r.lineage and place != ROUTER), None)

    def programme(self) -> Programme:
        """What the run trains, by its configuration and by the corpus and precision that its models record.

        Raises:
            UserError: its models record none.
        """
        lineage, corpus = self._lineage(), self.result(CorpusResult)
        if self.config is None or lineage is None or corpus is None:
            raise UserError(f"{self.folder.uri}: its models do not say what they were trained on; {UNCHECKED}")
        recipe = Recipe.from_json(lineage.recipe)
        sizes = {domain.name: domain.train.tokens for domain in corpus.domains}
        facts = CorpusFacts(recipe.corpus, recipe.vocab, recipe.end_token, tuple(sizes), sizes)
        ladder = self.result(LadderResult)
        return Programme(self.config, facts, recipe.precision, ladder.rates if ladder is not None else None)

    def _check_keys(self) -> None:
        """The keys that configuration and plan lead to, beside those that the stages have trained."""
        searched = self.result(SearchResult)
        lineage = self._lineage()
        if self.config is None or self.result(CorpusResult) is None or searched is None or lineage is None:
            return
        try:
            programme = self.programme()
            split = programme.final().split(searched.final_plan.split_fraction.value)
            requests = programme.specialists(split)
            meant = {f"{SPECIALISTS}/{d}": r.target.key for d, r in zip(programme.weights, requests, strict=True)}
        except (SplitrayError, OSError) as error:
            self.findings.remark(f"the keys of the plan cannot be recomputed here: {error}")
            return
        for place, key in meant.items():
            self.findings.lineages += 1
            if (held := self.models.get(place)) is not None and held != key:
                at = f"split after {split.pretrain_tokens:,} tokens"
                self.findings.fault(place, f"{held} is not the model of this configuration and plan ({at}), {key}")
        for place, record in self.exports.items():
            other = record.lineage and {**record.lineage.recipe} != {**lineage.recipe}
            if other and record.lineage is not None:
                self.findings.fault(
                    f"{place}/{CHECKSUMS}", f"{key_of(record.lineage)} has another recipe than the rest"
                )


def config_of(folder: Folder) -> Config:
    """The configuration of a run folder, without what would import modules here.

    Raises:
        UserError: it cannot be read.
    """
    try:
        values = yaml.safe_load(folder.read(CONFIG))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{CONFIG}: {' '.join(str(error).split())}") from None
    if isinstance(values, dict):
        for name in _EXECUTED:
            values.pop(name, None)
    return parse(yaml.safe_dump(values).encode(), CONFIG)


def store_of(folder: Folder) -> str:
    """The address of the store of a run folder, as its configuration says; else beside it."""
    return places(config_of(folder), folder.address).store


def models_of(records: Mapping[str, StageRecord]) -> dict[str, str]:
    """The exported folders of a run with the keys that they hold, by what its stages have recorded."""
    found: dict[str, str] = {}
    for record in records.values():
        match record.result:
            case BaseResult(path=str(path), key=str(key)):
                found[path] = key
            case SpecialistsResult(specialists=specialists, router=router):
                found |= {s.path: s.key for s in specialists}
                if router is not None and isinstance(corpus := records.get("corpus"), StageRecord):
                    assert isinstance(corpus.result, CorpusResult)
                    found[router] = corpus.result.key
            case EvaluationResult(base=base) if base is not None:
                found[base.path] = base.key
    return found


def _text(plan: Plan) -> str:
    return json.dumps(plan.plain(), sort_keys=True)


def _first(ours: Plan, other: Plan) -> str:
    """The first field in which two plans differ."""
    mine, theirs = ours.plain(), other.plain()
    name = next((n for n in mine if mine[n] != theirs.get(n)), "a field")
    return f"{name} is {json.dumps(mine.get(name))[:80]}, recorded is {json.dumps(theirs.get(name))[:80]}"
