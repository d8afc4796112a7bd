"""One Ray cluster for the whole test session: starting one costs seconds, starting one a test costs minutes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from splitray.pipeline.logs import logged_to
from tests.support import SHARED

# The same examples every time, and no deadline: timing is never a test.
hypothesis.settings.register_profile("splitray", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("splitray")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora and runs beside the checkout, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("needs the benchmark data folder ../shared/data, which is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with 2 CPUs, no dashboard; actors and tasks of all tests share it."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # "local": a cluster that somebody runs on this machine is not for tests to join
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=True)
    yield
    ray.shutdown()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages of the package's log, from INFO up, as they come."""
    lines: list[str] = []
    with logged_to(lines.append):
        yield lines


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine mounts nothing: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of tiny models, its store beside it. Copy what a test changes."""
    from tests.support.finished import write_finished

    return write_finished(tmp_path_factory.mktemp("finished"))
