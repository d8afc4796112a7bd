"""The one way from a result to JSON and back."""

from typing import Annotated, Any, TypeVar, cast

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from splitray.errors import CorruptError
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.plan import Plan

T = TypeVar("T")


def _plan(value: Any) -> Plan:
    try:
        return value if isinstance(value, Plan) else Plan.parse(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no plan ({type(error).__name__}: {error})") from error


# A plan has a schema of its own, which says how an infinite number is written.
PlanField = Annotated[Plan, PlainValidator(_plan), PlainSerializer(Plan.plain)]


def _estimate(value: Any) -> Estimate:
    if isinstance(value, Estimate):
        return value
    try:
        return Estimate.parse(value, bool(value.get("probability_infinite")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no estimate ({type(error).__name__}: {error})") from error


# An estimate has a format of its own, which says how an infinite number is written.
EstimateField = Annotated[Estimate, PlainValidator(_estimate), PlainSerializer(Estimate.plain)]


_adapters: dict[type, TypeAdapter[Any]] = {}  # one takes milliseconds to make


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def to_json(value: object) -> dict[str, Any]:
    """A dataclass as plain JSON types, its fields by name."""
    return cast(dict[str, Any], _adapter(type(value)).dump_python(value, mode="json"))


def from_json(kind: type[T], record: object, where: str) -> T:
    """The dataclass that `to_json` gave. Fields that it does not know are passed over, missing ones have defaults.

    Raises:
        CorruptError: `where` the record stands holds something else.
    """
    try:
        return cast(T, _adapter(kind).validate_python(record))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CorruptError(f"{where} is no {kind.__name__}: {place or 'record'}: {first['msg']}") from None
