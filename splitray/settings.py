"""Base of every settings section: typed, frozen, unknown keys refused, each field of one of three kinds.

`identity` fields decide what comes out. `refit` fields only change how the law is fitted or the plan is made: in a
finished run folder they may change, and what rests on the law is done again. `operational` fields say how the work is
done.

A section lives beside the component that it sets (`splitray/corpus/settings.py`, ...) and is composed into one
object in `splitray/config.py`.
"""

import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator, model_validator

from splitray.errors import UserError
from splitray.storage.redact import without_query
from splitray.units import parse_count

_log = logging.getLogger(__name__)

_TOO_LARGE, _LARGEST = 2**63, 10**308  # no count of ours goes so far; a double holds the second

# A path or URI. What is written of it (run folder, manifest, report, messages) lacks logins and storage options.
Place = Annotated[str, PlainSerializer(without_query, return_type=str)]


Kind = Literal["identity", "refit", "operational"]


class Settings(BaseModel):
    """A section of the configuration. Fields are identity fields unless made with `operational` or `refit`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
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

    @field_validator("*", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers by the rule of `parse_count`; a section that is named and left empty has its defaults."""
        assert info.field_name is not None
        kind = cls.model_fields[info.field_name].annotation
        if value is None and isinstance(kind, type) and issubclass(kind, Settings):
            return {}
        return _number(value) if is_numeric(kind) else value

    def identity(self) -> dict[str, Any]:
        """The resolved values (defaults included) of the identity fields, as plain JSON types, nested."""
        return _of_kind(self, "identity")

    def refit(self) -> dict[str, Any]:
        """The resolved values of the fields that only change the fit, as plain JSON types, nested."""
        return _of_kind(self, "refit")


def is_numeric(kind: Any) -> bool:
    """Whether a field's type is int or float, or a list, a choice or an option of them."""
    parts = get_args(kind)
    if kind in (int, float) or type(kind) is int:  # the latter: a choice of a Literal
        return True
    return bool(parts) and all(part is type(None) or is_numeric(part) for part in parts)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    if isinstance(value, list | tuple):
        return [_number(item) for item in value]
    try:
        number = parse_count(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from None
    if isinstance(number, int) and abs(number) >= _TOO_LARGE:  # as doubles, integer fields refuse them
        return float(number) if abs(number) < _LARGEST else math.inf
    return number


def operational(default: Any, description: str, **constraints: Any) -> Any:
    """A field that says how the work is done, not what comes out (workers, resources, concurrency, log level)."""
    return Field(default, description=description, json_schema_extra={"kind": "operational"}, **constraints)


def refit(default: Any, description: str, later: bool = False, formerly: Any = None, **constraints: Any) -> Any:
    """A field that only changes how the law is fitted or the plan is made: nothing before the law depends on it.

    Args:
        later: it came after laws were kept. At its default, those laws stay.
        formerly: its default of before, if that was another. Plans that were made with it stay, so a finished run
            folder does not tell the two apart.
    """
    extra: dict[str, Any] = {"kind": "refit", "later": later, "formerly": formerly}
    return Field(default, description=description, json_schema_extra=extra, **constraints)


def later(default: Any, description: str, **constraints: Any) -> Any:
    """An identity field that came after keys were made: left out of the identity at its default, so those keys stay."""
    return Field(default, description=description, json_schema_extra={"later": True}, **constraints)


def _extra(model: type[BaseModel], name: str) -> dict[str, Any]:
    extra = model.model_fields[name].json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _is_later(model: type[BaseModel], name: str) -> bool:
    return bool(_extra(model, name).get("later"))


def kind_of(model: type[BaseModel], name: str) -> Kind:
    """Of which kind a field is."""
    extra = model.model_fields[name].json_schema_extra
    kind = extra.get("kind") if isinstance(extra, dict) else None
    if kind == "refit":
        return "refit"
    return "operational" if kind == "operational" else "identity"


def _of_kind(model: BaseModel, kind: Kind) -> dict[str, Any]:
    """The values of the fields of one kind; sections without any are left out, but for those of identity."""
    plain = model.model_dump(mode="json")
    result: dict[str, Any] = {}
    for name in type(model).model_fields:
        value, own = getattr(model, name), kind_of(type(model), name)
        if own == "operational":
            continue
        if _is_later(type(model), name) and value == type(model).model_fields[name].default:
            continue
        if isinstance(value, BaseModel):
            inner = _of_kind(value, kind)
            if inner or kind == "identity":
                result[name] = inner
        elif isinstance(value, list | tuple) and value and all(isinstance(v, BaseModel) for v in value):
            if kind == own:
                result[name] = [_of_kind(v, kind) for v in value]
        elif kind == own:
            formerly = _extra(type(model), name).get("formerly")
            at_default = formerly is not None and value == type(model).model_fields[name].default
            result[name] = formerly if at_default else plain[name]
    # sections of what users register have no field
    extra = (model.model_extra or {}).items() if kind == "identity" else ()
    result.update({name: _of_kind(value, kind) for name, value in extra if isinstance(value, BaseModel)})
    return result
