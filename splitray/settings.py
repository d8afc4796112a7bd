"""Base of every settings section: typed, frozen, unknown keys refused, each field of one of three kinds.

`identity` fields decide what comes out. `refit` fields only change how the law is fitted or the plan is made: in a
finished run folder they may change, and what rests on the law is done again. `operational` fields say how the work is
done.

A section lives beside the component that it sets (`splitray/corpus/settings.py`, ...) and is composed into one
object in `splitray/config.py`.
"""

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from splitray.storage.folder import without_query

_log = logging.getLogger(__name__)

# A path or URI. What is written of it (run folder, manifest, report, messages) lacks logins and storage options.
Place = Annotated[str, PlainSerializer(without_query, return_type=str)]


Kind = Literal["identity", "refit", "operational"]


class Settings(BaseModel):
    """A section of the configuration. Fields are identity fields unless made with `operational` or `refit`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    renamed: ClassVar[Mapping[str, str]] = {}  # old names of fields, still read: old name -> name

    @model_validator(mode="before")
    @classmethod
    def _from_old_names(cls, values: Any) -> Any:
        """Read files of before a field was renamed, and say so."""
        if not isinstance(values, dict):
            return values
        old = {name: new for name, new in cls.renamed.items() if name in values}
        for name, new in old.items():
            if new in values:
                raise ValueError(f"{name} is the old name of {new}: give only {new}")
            _log.warning("config: %s is now called %s; the old name is still read", name, new)
        return {old.get(name, name): value for name, value in values.items()}

    def identity(self) -> dict[str, Any]:
        """The resolved values (defaults included) of the identity fields, as plain JSON types, nested."""
        return _of_kind(self, "identity")

    def refit(self) -> dict[str, Any]:
        """The resolved values of the fields that only change the fit, as plain JSON types, nested."""
        return _of_kind(self, "refit")


def operational(default: Any, description: str, **constraints: Any) -> Any:
    """A field that says how the work is done, not what comes out (workers, resources, concurrency, log level)."""
    return Field(default, description=description, json_schema_extra={"kind": "operational"}, **constraints)


def refit(default: Any, description: str, **constraints: Any) -> Any:
    """A field that only changes how the law is fitted or the plan is made: nothing before the law depends on it."""
    return Field(default, description=description, json_schema_extra={"kind": "refit"}, **constraints)


def kind_of(model: type[BaseModel], name: str) -> Kind:
    """Of which kind a field is."""
    extra = model.model_fields[name].json_schema_extra
    kind = extra.get("kind") if isinstance(extra, dict) else None
    if kind == "refit" or kind == "operational":
        return kind
    return "identity"


def _of_kind(model: BaseModel, kind: Kind) -> dict[str, Any]:
    """The values of the fields of one kind; sections without any are left out, but for those of identity."""
    plain = model.model_dump(mode="json")
    result: dict[str, Any] = {}
    for name in type(model).model_fields:
        value, own = getattr(model, name), kind_of(type(model), name)
        if own == "operational":
            continue
        if isinstance(value, BaseModel):
            inner = _of_kind(value, kind)
            if inner or kind == "identity":
                result[name] = inner
        elif isinstance(value, list | tuple) and value and all(isinstance(v, BaseModel) for v in value):
            if kind == own:
                result[name] = [_of_kind(v, kind) for v in value]
        elif kind == own:
            result[name] = plain[name]
    return result
