"""The registry of trackers. Adding one is adding one class: see `Tracker`."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from splitray.errors import UserError, did_you_mean
from splitray.runtime.plugins import find_class, register_class
from splitray.tracking.tracker import Tracker, TrackerSettings

GROUP = "splitray.trackers"  # the entry points by which an installed package offers its trackers
REGISTRY: dict[str, type[Tracker]] = {}
T = TypeVar("T", bound=type[Tracker])


def register_tracker(tracker: T) -> T:
    """Make `trackers: [{name: NAME}]` mean this class."""
    known: type[Tracker] = tracker
    register_class(REGISTRY, "tracker", known)
    return tracker


def find_tracker(name: str) -> type[Tracker]:
    """The tracker of that name; errors as of `find_class`."""
    return find_class(REGISTRY, "tracker", GROUP, name)


def check_packages(trackers: Iterable[TrackerSettings]) -> None:
    """Refuse trackers whose packages are not installed here.

    Raises:
        UserError: names the field, and what to install.
    """
    for place, settings in enumerate(trackers):
        for module, package in find_tracker(settings.name).packages.items():
            if find_spec(module) is None:
                raise UserError(
                    f"trackers.{place}.name: {settings.name} needs the package {package}, which is not installed: "
                    f"pip install {package}, or leave the entry out"
                )


def tracker_settings(entries: object) -> object:
    """Entries of `trackers`, each as an object of its tracker's settings class.

    Raises:
        ValidationError: says which entry is wrong, and what in it.
    """
    if not isinstance(entries, list | tuple):
        return entries
    made, faults = list[object](), list[InitErrorDetails]()
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(name, str):
            made.append(entry)  # pydantic says what is wrong with it
            continue
        try:
            settings_class = find_tracker(name).settings_class
            made.append(settings_class.model_validate(entry))
        except UserError as error:
            faults.append(_fault(str(error), (place, "name"), name))
        except ValidationError as error:
            faults += [_told(settings_class, place, each) for each in error.errors()]
    if faults:
        raise ValidationError.from_exception_data("trackers", faults)
    return made


def _told(settings_class: type[TrackerSettings], place: int, error: object) -> InitErrorDetails:
    assert isinstance(error, dict)
    loc, known = error["loc"], list(settings_class.model_fields)
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown key{did_you_mean(str(loc[-1]), known) or '; known are ' + ', '.join(known)}"
    return _fault(message, (place, *loc), error["input"])


def _fault(message: str, loc: tuple[int | str, ...], given: object) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("tracker", "{reason}", {"reason": message}), loc=loc, input=given)
