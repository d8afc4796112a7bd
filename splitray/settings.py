"""Base of every settings section: typed, frozen, unknown keys refused, identity and operational fields told apart.

A section lives beside the component that it sets (`splitray/corpus/settings.py`, ...) and is composed into one
object in `splitray/config.py`.
"""

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from splitray.storage.folder import without_query

_log = logging.getLogger(__name__)

# A path or URI. What is written of it (run folder, manifest, report, messages) lacks logins and storage options.
Place = Annotated[str, PlainSerializer(without_query, return_type=str)]


class Settings(BaseModel):
    """A section of the configuration. Fields are identity fields unless made with `operational`."""

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
        return _identity(self)


def operational(default: Any, description: str, **constraints: Any) -> Any:
    """A field that says how the work is done, not what comes out (workers, resources, concurrency, log level)."""
    return Field(default, description=description, json_schema_extra={"operational": True}, **constraints)


def later(default: Any, description: str, **constraints: Any) -> Any:
    """An identity field that came after keys were made: left out of the identity at its default, so those keys stay."""
    return Field(default, description=description, json_schema_extra={"later": True}, **constraints)


def _is_later(model: type[BaseModel], name: str) -> bool:
    extra = model.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("later"))


def is_operational(model: type[BaseModel], name: str) -> bool:
    extra = model.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("operational"))


def _identity(model: BaseModel) -> dict[str, Any]:
    plain = model.model_dump(mode="json")
    result: dict[str, Any] = {}
    for name in type(model).model_fields:
        if is_operational(type(model), name):
            continue
        value = getattr(model, name)
        if _is_later(type(model), name) and value == type(model).model_fields[name].default:
            continue
        if isinstance(value, BaseModel):
            result[name] = _identity(value)
        elif isinstance(value, list | tuple) and value and all(isinstance(v, BaseModel) for v in value):
            result[name] = [_identity(v) for v in value]
        else:
            result[name] = plain[name]
    return result
