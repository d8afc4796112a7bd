"""What the tests of this folder share."""

import multiprocessing.util
from collections.abc import Iterator

import pytest

from tests.support.stand import Stand, running_stand


@pytest.fixture(autouse=True, scope="session")
def _short_sockets() -> None:
    """Processes that tests start meet on a socket below the usual temporary folder, as its path has 108 bytes at most.

    Some tests move that folder to their own, whose name is long.
    """
    multiprocessing.util.get_temp_dir()


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """An S3 server of a file of tests."""
    with running_stand() as running:
        yield running
