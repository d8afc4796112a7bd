"""One typed object for one YAML file. `load` reads it, applies `--set` overrides and checks what relates fields."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import yaml
from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from splitray import yaml_text
from splitray.corpus.embedders import section_owner
from splitray.corpus.settings import CorpusSettings
from splitray.errors import UserError, did_you_mean
from splitray.evaluate.settings import EvaluateSettings
from splitray.executor.prices import check_price
from splitray.executor.settings import ResourceSettings
from splitray.ladder.settings import LadderSettings
from splitray.law.settings import LawSettings, PlanSettings
from splitray.proof.settings import ProofSettings
from splitray.runtime.plugins import load_plugins
from splitray.search.settings import SearchSettings
from splitray.settings import Kind, Place, Settings, kind_of, operational
from splitray.storage.redact import without_query
from splitray.tracking import TrackerSettings, tracker_settings
from splitray.tracking.registry import check_packages
from splitray.tracking.settings import AlertSettings
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.weights import check_budget, check_weights, parse_weights, shares

C = TypeVar("C", bound=Settings)
_SECRET = "alerts"  # a section of which messages repeat nothing: a webhook's address, or a part of it, lets one post
DEMO = Path(__file__).parent / "configs" / "demo.yaml"  # a file of the package: what runs where no config is given


class Runnable(Protocol):
    """What every kind of configuration has that a run is made of: a name, how to train, and where to work."""

    @property
    def name(self) -> str: ...
    @property
    def training(self) -> TrainingSettings: ...
    @property
    def resources(self) -> ResourceSettings: ...
    @property
    def run_dir(self) -> str | None: ...
    @property
    def store(self) -> str | None: ...


class Config(Settings):
    """The whole run. Fields are identity fields unless marked otherwise: see docs/architecture.md."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run; default run folder runs/NAME."
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,  # what scikit-learn takes
        description="Seed of initial weights, data order, clustering and bootstrap.",
    )
    budget: int = Field(gt=0, description="D_T: total tokens of the final models, D plus the sum of D'.")
    weights: Literal["uniform", "tokens"] | dict[str, float] = Field(
        "uniform",
        description="Weight of a domain in the mixture, the mean loss and every baseline: 1/K (uniform), its size "
        "(tokens), or a number for each given domain, `{law: 0.3, code: 0.7}`. The numbers sum up to 1.",
    )
    corpus: CorpusSettings
    model: ModelShape
    training: TrainingSettings = TrainingSettings()
    ladder: LadderSettings
    law: LawSettings = LawSettings()
    plan: PlanSettings = PlanSettings()
    search: SearchSettings = SearchSettings()
    proof: ProofSettings = operational(ProofSettings(), "What `splitray prove` measures.")
    evaluate: EvaluateSettings = EvaluateSettings()
    resources: ResourceSettings = ResourceSettings()
    run_dir: Place | None = operational(None, "Run folder, a path or URI; default runs/NAME.")
    plugins: list[str] = operational([], "Modules of your own, imported first: what they register is known by name.")
    trackers: list[SerializeAsAny[TrackerSettings]] = operational(
        [], "Where the numbers of the run go too: `[{name: tensorboard}]`. Names: jsonl, tensorboard, mlflow, wandb."
    )
    alerts: AlertSettings = operational(AlertSettings(), "Messages to a webhook.")
    store: Place | None = operational(None, "Store of segments, a path or URI; default: `store` beside the run folder.")

    @model_validator(mode="before")
    @classmethod
    def _plugins(cls, values: Any) -> Any:
        """Import the plugins before the sections are checked, in which their names stand."""
        if isinstance(values, dict) and isinstance(values.get("plugins"), list | tuple):
            try:
                load_plugins(values["plugins"])
            except UserError as error:
                raise ValueError(str(error)) from error
        return values

    @field_validator("trackers", mode="before")
    @classmethod
    def _trackers(cls, entries: object) -> object:
        """Give every entry the class of its tracker."""
        return tracker_settings(entries)

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, given: object) -> object:
        """A word, or a number for each domain."""
        return parse_weights(given)

    @model_validator(mode="after")
    def _given_weights(self) -> "Config":
        """Check a vector of weights as far as the domains are known before their column is read."""
        if isinstance(self.weights, str):
            return self
        if not self.corpus.given:
            raise ValueError(
                "weights by domain need given domains: name sources as domains, or set corpus.domain_column; domains "
                "that are found have no names before"
            )
        if self.corpus.given_names is not None:
            check_weights(self.weights, self.corpus.given_names)
        elif len(self.weights) != self.corpus.domains:
            raise ValueError(f"weights names {len(self.weights)} domains, and corpus.domains is {self.corpus.domains}")
        return self

    @model_validator(mode="after")
    def _relations(self) -> "Config":
        training, batch = self.training, self.training.batch_tokens
        most = {
            "resources.base_workers": self.resources.base_workers,
            "resources.specialist_workers": self.resources.specialist_workers,
        }
        for field, workers in (most | self.resources.smallest_groups).items():
            if training.global_batch_size % workers:
                raise ValueError(
                    f"{field} = {workers} does not divide training.global_batch_size = {training.global_batch_size}"
                )
        if self.budget < 2 * batch * self.corpus.domains:
            raise ValueError(
                f"budget = {self.budget} tokens is less than two batches of {batch} for each of {self.corpus.domains} "
                "domains: raise budget, or lower training.global_batch_size or training.sequence_length"
            )
        if not isinstance(self.weights, str):
            check_budget(shares(self.weights, list(self.weights)), self.budget, batch)
        smallest = min(d for d in self.ladder.pretrain_tokens if d > 0)
        if smallest < 4 * batch:
            raise ValueError(f"ladder.pretrain_tokens: {smallest} is less than four batches of {batch} tokens")
        if min(self.ladder.specialize_tokens) < batch:
            raise ValueError(
                f"ladder.specialize_tokens: {min(self.ladder.specialize_tokens)} is less than a batch of {batch}"
            )
        if training.warmup_tokens > 0.1 * smallest:
            raise ValueError(
                f"training.warmup_tokens = {training.warmup_tokens} is more than a tenth of the ladder's smallest D = "
                f"{smallest}: those points would measure the warm-up (2 % is a good share)"
            )
        if self.ladder.domains > self.corpus.domains:
            raise ValueError(f"ladder.domains = {self.ladder.domains} exceeds corpus.domains = {self.corpus.domains}")
        if self.plan.min_pretrain_tokens > self.budget:
            raise ValueError(
                f"plan.min_pretrain_tokens = {self.plan.min_pretrain_tokens} exceeds budget = {self.budget}"
            )
        return self


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration from a YAML file.

    Args:
        path: of the file. `splitray settings` prints what it may hold.
        overrides: `section.key=value`, applied to the file's values in order, as `--set` takes them.

    Returns:
        The configuration, checked, defaults filled in.

    Raises:
        UserError: names the file and every field that is wrong, missing or unknown, and the nearest name that is known.
    """
    return load_as(Config, path, overrides)


def load_as(kind: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """As `load`, for another kind of configuration, which is `Runnable`."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"config {path}: no such file") from error
    except OSError as error:
        raise UserError(f"config {path}: {error.strerror}") from error
    config = parse_as(kind, text, f"config {path}", overrides)
    try:
        # not where a run folder's config is read: it may be another machine's
        check_packages(getattr(config, "trackers", []))
        check_price(cast(Runnable, config).resources)
    except UserError as error:
        raise UserError(f"config {path}: {error}") from None
    return config


def parse(text: bytes, where: str, overrides: Sequence[str] = ()) -> Config:
    """A config from YAML; `where` names its source in a `UserError`."""
    return parse_as(Config, text, where, overrides)


def parse_as(kind: type[C], text: bytes, where: str, overrides: Sequence[str] = ()) -> C:
    """As `parse`, for another kind of configuration."""
    try:
        values = yaml_text.read(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{where}: {_fault(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: a mapping of sections is expected, not {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    try:
        return kind(**values)
    except ValidationError as error:
        told = "; ".join(_told(e, kind) for e in error.errors())
        raise UserError(f"{where}: {told}") from None  # it holds the values
    except TypeError as error:
        raise UserError(f"{where}: keys must be text ({error})") from error


def _fault(error: Exception) -> str:
    """What is wrong with a YAML text, and where. The text itself, which YAML's own message quotes, may hold keys."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _apply(values: dict[Any, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    names, override = path.strip().split("."), without_query(override)
    if re.match(rf"{_SECRET}\b", override.strip()):
        override = f"{_SECRET}..."
    if not equals or not all(name.isidentifier() for name in names):
        raise UserError(f"--set {override}: give section.key=value")
    for name in names[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}: {name} is not a section")
        values = inner
    try:
        values[names[-1]] = yaml_text.read(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not YAML: {_fault(error)}") from None


def _told(error: Any, kind: type[Settings]) -> str:
    place = ".".join(str(p) for p in error["loc"]) or "config"
    secret = error["loc"][:1] == (_SECRET,)
    if error["type"] == "extra_forbidden":
        section, known = ".".join(str(p) for p in error["loc"][:-1]), _keys(kind, error["loc"][:-1])
        if section == _SECRET and not str(error["loc"][-1]).isidentifier():  # `webhook:URL`, without a blank
            return f"unknown key in {section}; it has {', '.join(known)}"
        near = did_you_mean(str(error["loc"][-1]), known)
        listed = "" if near else f"; {section or 'the configuration'} has {', '.join(known)}"
        return f"unknown key {without_query(place)}{near or listed}"
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["input"] is None:
        return f"{place} is empty: give a value"
    if error["type"] in ("model_type", "model_attributes_type"):
        given = type(error["input"]).__name__ if secret else f"{without_query(repr(error['input'])):.80}"
        return f"{place}: a section of keys is expected, not {given}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "literal_error":
        choices = [word.strip("' ") for word in re.split(" or |,", error["ctx"]["expected"])]
        message = f"choose {', '.join(choices)}{did_you_mean(str(error['input']), choices)}"
    elif error["type"] == "string_type" and not isinstance(error["input"], list | dict):
        message = "text is needed; put the value in quotes"
    if secret and str(error["input"]) in message:
        return f"{place}: this is not what is expected there"
    given = without_query(repr(error["input"]))
    got = "" if given in message or place == "config" or secret else f" (got {given:.80})"
    return message if place == "config" else f"{place}: {without_query(message)}{got}"


def _keys(kind: type[Settings], place: Sequence[str | int]) -> list[str]:
    """The keys of the section at a place such as ("ladder", "shapes", 0)."""
    section: Any = kind
    for name in place:
        if isinstance(name, str):
            field, owner = section.model_fields.get(name), section_owner(name)
            section = field.annotation if field is not None else owner and owner.settings_class
        section = next(s for s in (section, *get_args(section)) if isinstance(s, type) and issubclass(s, Settings))
    return list(section.model_fields)


def dump(config: Settings) -> str:
    """The resolved config as YAML that `load` reads back."""
    return yaml_text.write(config.model_dump(mode="json"))


def changes(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Fields that differ between two `Settings.identity()` or `refit()`, as `section.key: old -> new`."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changes(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}: {old!r} -> {new!r}"


def describe(model: type[Settings] = Config, prefix: str = "") -> Iterator[tuple[str, Kind, Any, str]]:
    """(key, kind, default, description) of every field: the manual of the configuration."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from describe(kind, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", kind_of(model, name), default, field.description or ""


def manual(section: str = "", kind: type[Settings] = Config) -> str:
    """Every field as text, one paragraph each: key, default as YAML takes it, its kind but for identity, meaning.

    Args:
        section: only the fields of this section, or this field; all where empty.
        kind: of configuration.

    Raises:
        UserError: there is no such section or field.
    """
    paragraphs = []
    fields = [f for f in describe(kind) if not section or f[0] == section or f[0].startswith(f"{section}.")]
    if not fields:
        keys = [key for key, *_ in describe(kind)]
        sections = {".".join(key.split(".")[:n]) for key in keys for n in (1, 2)}
        raise UserError(f"the configuration has no {section!r}{did_you_mean(section, [*sections, *keys])}")
    for key, role, default, meaning in fields:
        value = "  (required)" if default == "required" else f" = {yaml_text.inline(default)}"
        paragraphs.append(f"{key}{value}{'' if role == 'identity' else f'  [{role}]'}\n    {meaning}")
    return "\n".join(paragraphs)
