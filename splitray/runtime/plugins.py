"""Modules of the user's own, imported so that what they register is known: embedders and whatever else has a seam."""

import importlib
from collections.abc import Iterable

from splitray.errors import UserError


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
