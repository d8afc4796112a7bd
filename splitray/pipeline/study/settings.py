"""The configuration of a study: one typed object for one YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from splitray.config import load_as
from splitray.corpus.settings import CorpusSettings
from splitray.errors import UserError
from splitray.evaluate.settings import ExamSettings
from splitray.executor.settings import ResourceSettings
from splitray.results.study import FILTERED, GENERAL, MIX
from splitray.runtime.plugins import load_plugins
from splitray.settings import Place, Settings, operational, refit
from splitray.study.cells import CELLS
from splitray.study.examples import ExampleSettings
from splitray.study.filter import FilterSettings
from splitray.tracking.settings import AlertSettings
from splitray.training.settings import ModelShape, TrainingSettings

Arm = Literal["general", "filtered", "quality", "mix"]
STUDY_DEMO = Path(__file__).parents[2] / "configs" / "study.yaml"  # what runs where no config is given


class TopicSettings(Settings):
    """The domain: how its text is told from other text."""

    name: str = Field("domain", min_length=1, description="The domain in one or two words, for the report.")
    examples: ExampleSettings
    filter: FilterSettings = FilterSettings()
    megabytes: float | None = Field(
        None, gt=0, description="Text to keep for the domain, the best of it; default: all from the threshold up."
    )
    max_contaminated: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the corpus's documents that may hold questions of the exams. They are left out; with "
        "more of them the exams are part of the corpus, and the study is refused.",
    )


class OwnSettings(Settings):
    """Bases of one's own: one trunk each on the general text, which all arms continue."""

    shapes: list[ModelShape] = Field(min_length=1, description="Their shapes, from small to large.")
    pretrain_tokens: int = Field(gt=0, description="Tokens of general text that each base is trained on first.")
    held_out: bool = Field(
        True, description="Whether results of the largest base are forecast, and sealed, before it is continued."
    )
    held_out_seeds: int = Field(1, ge=1, description="Seeds of that base.")

    @model_validator(mode="after")
    def _fresh(self) -> "OwnSettings":
        if any(shape.path is not None for shape in self.shapes):
            raise ValueError("own.shapes have dimensions; a model from a folder goes to `given`")
        if self.held_out and len(self.shapes) < 3:
            raise ValueError(
                f"own.held_out needs two sizes beside the one that is held out, and own.shapes has {len(self.shapes)}: "
                "give more shapes, or set own.held_out to false"
            )
        return self


class GivenSettings(Settings):
    """A model from outside, continued with its own tokenizer. What is empty is as for the bases of one's own."""

    path: str = Field(min_length=1, description="Local folder of a Hugging Face causal LM (safetensors only).")
    name: str | None = Field(None, min_length=1, description="What the results call it; default: the folder's name.")
    tokenizer: str | None = Field(
        None, min_length=1, description="Folder of its tokenizer; default: that of the model."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate; `sweep.multipliers` apply to it.")
    arms: list[Arm] | None = Field(None, description="Arms that it is continued on.")
    tokens: list[int] | None = Field(None, description="Token counts at which a finished model is measured.")
    seeds: int | None = Field(None, ge=1, description="Seeds of the data's order.")

    @property
    def label(self) -> str:
        return self.name or ModelShape(path=self.path).label


class SweepSettings(Settings):
    """The learning rate of every model: the best of a few on the general validation text, and never on an exam."""

    multipliers: list[float] = Field([1.0], min_length=1, description="Of the learning rate that is configured.")
    tokens: int | None = Field(
        None, gt=0, description="Tokens of general text each is trained on; default: the first of `tokens`."
    )

    @field_validator("multipliers")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        if any(value <= 0 for value in values) or len(set(values)) < len(values):
            raise ValueError("multipliers are different numbers above 0")
        return values


class MeasureSettings(Settings):
    """What every finished model is measured on."""

    validation_tokens: int = Field(
        65536, ge=256, description="Tokens of validation text of each cell that losses are measured on, at most."
    )
    exams: list[ExamSettings] = Field(
        [], description="Choice tasks: `[law.jsonl]` or `[{file: law.jsonl, shots: 2, questions: 200}]`."
    )


class AdviceSettings(Settings):
    """What the advice at the end is for."""

    flops: float | None = refit(
        None, "Compute for continued training; default: that of the longest line of the largest base.", gt=0
    )
    topic_tokens: int | None = refit(
        None, "Different tokens of the domain at hand; default: those of the filtered corpus.", gt=0
    )


class StudyConfig(Settings):
    """A whole study. Fields are identity fields unless marked otherwise."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the study; default run folder runs/NAME."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of initial weights, data order, filter and bootstrap.")
    corpus: CorpusSettings
    topic: TopicSettings
    own: OwnSettings | None = Field(None, description="Bases of one's own; leave it out where models are given.")
    given: list[GivenSettings] = Field([], description="Models from outside: `[{path: FOLDER}]`.")
    arms: list[Arm] = Field(
        ["general", "filtered", "quality"],
        description="Texts that models are continued on; mix is filtered and replay.",
    )
    tokens: list[int] = Field(
        min_length=2, description="Token counts of continued training at which a finished model is measured, rising."
    )
    seeds: int = Field(3, ge=1, description="Seeds of every line but those of the base that is held out.")
    replay_share: float = Field(0.1, gt=0, lt=1, description="Share of general text in the arm `mix`.")
    sweep: SweepSettings = SweepSettings()
    training: TrainingSettings = TrainingSettings()
    measure: MeasureSettings = MeasureSettings()
    advice: AdviceSettings = AdviceSettings()
    resources: ResourceSettings = ResourceSettings()
    run_dir: Place | None = operational(None, "Run folder, a path or URI; default runs/NAME.")
    store: Place | None = operational(None, "Store of segments, a path or URI; default: `store` beside the run folder.")
    plugins: list[str] = operational([], "Modules of your own, imported first: what they register is known by name.")
    alerts: AlertSettings = operational(AlertSettings(), "Messages to a webhook.")

    @model_validator(mode="before")
    @classmethod
    def _prepared(cls, values: Any) -> Any:
        """Import the plugins, whose names the sections use; the filter makes the corpus's domains, so none are set."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("plugins"), list | tuple):
            try:
                load_plugins(values["plugins"])
            except UserError as error:
                raise ValueError(str(error)) from error
        corpus = values.get("corpus")
        if not isinstance(corpus, dict):
            return values
        if isinstance(corpus.get("sources"), dict) or corpus.get("domain_column") is not None:
            raise ValueError(
                "corpus: the filter makes the domains of a study: list the sources without names, leave domain_column "
                "out, and name the labels in topic.examples"
            )
        return {**values, "corpus": {"domains": len(CELLS), **corpus}}

    @field_validator("tokens")
    @classmethod
    def _rising(cls, values: list[int]) -> list[int]:
        return _checked_tokens(values)

    @model_validator(mode="after")
    def _relations(self) -> "StudyConfig":
        if self.own is None and not self.given:
            raise ValueError("give bases of your own (`own`), models from outside (`given`), or both")
        for place, arms in (
            ("arms", self.arms),
            *((f"given.{n}.arms", g.arms or self.arms) for n, g in self._numbered),
        ):
            if not {GENERAL, FILTERED} <= set(arms) or len(set(arms)) < len(arms):
                raise ValueError(f"{place}: general and filtered are compared, so both must be there, each arm once")
        for n, given in self._numbered:
            if given.tokens is not None:
                try:
                    _checked_tokens(given.tokens)
                except ValueError as error:
                    raise ValueError(f"given.{n}.{error}") from None
        names = [given.label for given in self.given]
        if len(set(names)) < len(names):
            raise ValueError(f"given: two models are called {max(names, key=names.count)}: give each a `name`")
        batch = self.training.batch_tokens
        smallest = min([self.tokens[0], *(given.tokens[0] for given in self.given if given.tokens)])
        if smallest < batch:
            raise ValueError(f"tokens: {smallest} is less than a batch of {batch} tokens")
        if self.own is not None and self.own.pretrain_tokens < 4 * batch:
            raise ValueError(f"own.pretrain_tokens: {self.own.pretrain_tokens} is less than four batches of {batch}")
        if self.given and self.training.warmup_tokens > smallest / 2:
            raise ValueError(
                f"training.warmup_tokens = {self.training.warmup_tokens} is more than half of the first of tokens = "
                f"{smallest}: a given model is warmed up anew, and its first snapshot would measure that"
            )
        if self.training.replay_share or self.training.specialist_lr_multiplier != 1:
            raise ValueError(
                "training.replay_share and training.specialist_lr_multiplier belong to the main job: here the arm mix "
                "has replay_share, and every arm the same learning rate"
            )
        return self

    @property
    def _numbered(self) -> list[tuple[int, GivenSettings]]:
        return list(enumerate(self.given))

    @property
    def replays(self) -> bool:
        """Whether a model is continued on the arm `mix`."""
        return any(MIX in arms for arms in (self.arms, *(given.arms or () for given in self.given)))


def _checked_tokens(values: list[int]) -> list[int]:
    if len(values) < 2 or sorted(set(values)) != values or values[0] <= 0:
        raise ValueError("tokens: at least two token counts above 0, each larger than the one before")
    return values


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's configuration from a YAML file; arguments and errors as of `splitray.config.load`."""
    return load_as(StudyConfig, path, overrides)
