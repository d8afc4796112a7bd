"""What users bring: modules of their own, imported so that what they register is known, and classes by their names."""

import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import ClassVar, Protocol, TypeVar

from splitray.errors import UserError, check_choice


class Named(Protocol):
    """A class that a configuration names."""

    name: ClassVar[str]


C = TypeVar("C", bound=type[Named])


def register_class(registry: dict[str, C], kind: str, added: C) -> C:
    """Make a class known under its `name`. The same class again, from a module that is imported anew, replaces it.

    Args:
        kind: what it is, such as "embedder".

    Raises:
        UserError: another class has that name.
    """
    other = registry.get(added.name)
    if other is not None and (other.__module__, other.__qualname__) != (added.__module__, added.__qualname__):
        raise UserError(f"two {kind}s are named {added.name!r}: {other.__module__} and {added.__module__}")
    registry[added.name] = added
    return added


def find_class(registry: dict[str, C], kind: str, group: str, name: str) -> C:
    """The class of that name, loaded from an installed package if need be.

    Args:
        group: the entry points by which an installed package offers its classes.

    Raises:
        UserError: nobody has registered that name; the message lists the known ones.
    """
    if name not in registry:
        for entry in entry_points(group=group, name=name):
            register_class(registry, kind, entry.load())
    known = dict.fromkeys([*registry, *(entry.name for entry in entry_points(group=group))])
    try:
        return registry[check_choice(kind, name, known)]
    except UserError as error:
        article = "An" if kind[0] in "aeiou" else "A"
        raise UserError(
            f"{error}. {article} {kind} of your own is known once its module is imported: name the module under "
            f"`plugins`, or install it with an entry point {group!r}"
        ) from None


def load_plugins(modules: Iterable[object]) -> None:
    """Import modules by name.

    Raises:
        UserError: a module cannot be imported here.
    """
    for module in modules:
        if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"plugins: {module!r} is no name of a Python module, such as my_package.embedders")
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever the module's own code raises
            raise UserError(
                f"plugins: {module} cannot be imported ({type(error).__name__}: {error}); install it, or put its "
                "folder on PYTHONPATH, here and on every node"
            ) from error
