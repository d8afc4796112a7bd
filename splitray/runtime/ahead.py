"""Modules that are imported while the process waits for others."""

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Import modules in a thread meanwhile; they are there at the end. One that fails is left to who needs it."""

    def run() -> None:
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                _log.debug("%s cannot be imported ahead: %s", name, error)

    thread = threading.Thread(target=run, name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
