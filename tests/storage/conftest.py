"""What the tests of this folder share."""

import multiprocessing.util

import pytest


@pytest.fixture(autouse=True, scope="session")
def _short_sockets() -> None:
    """Processes that tests start meet on a socket below the temporary folder of before: paths have at most 108 bytes.

    Some tests move that folder to their own, whose name is long.
    """
    multiprocessing.util.get_temp_dir()
