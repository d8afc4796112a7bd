"""Every benchmark is a module that `python -m` can start."""

import importlib
import pkgutil

import pytest

import benchmarks


@pytest.mark.parametrize("name", sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__, "benchmarks.")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(name)
