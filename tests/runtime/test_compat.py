"""Names that torch, DeepSpeed, faiss and Ray may take away: without them there is one warning, and the same results."""

import importlib.metadata
import logging
import tomllib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from splitray.corpus.kmeans import nearest
from splitray.runtime import compat
from tests.support import ROOT


@pytest.fixture(autouse=True)
def warned_anew() -> None:
    compat.warn_missing.cache_clear()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_the_bounds_of_the_package_are_what_is_tested() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = {line.split("[")[0].split(">")[0]: line.split("]")[-1] for names in extras.values() for line in names}
    for package, (first, below) in compat.TESTED.items():
        assert listed[package].removeprefix(package) == f">={first},<{below}"


@pytest.mark.parametrize(
    ("installed", "known"),
    [("2.60.0", True), ("2.60.9", True), ("2.61.0", False), ("2.59.1", False), ("3.0.0rc1", False), ("2.60+cu1", True)],
)
def test_a_version_outside_is_named(monkeypatch: pytest.MonkeyPatch, installed: str, known: bool) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(compat, "version", lambda name: installed if name == "ray" else real(name))
    named = [sentence for sentence in compat.untested_versions() if sentence.startswith("ray ")]
    assert named == ([] if known else [f"ray {installed} is installed; splitray is tested with 2.60 up to below 2.61"])


def test_a_missing_name_is_said_once_with_the_version(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        compat.warn_missing("torch", "_gone", "it is slower")
    assert warnings(caplog) == [f"torch {importlib.metadata.version('torch')} has no _gone: it is slower"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softmax_gradient_without_torchs_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dtype: torch.dtype
) -> None:
    """Against autograd, with and without the kernel."""
    torch.manual_seed(0)
    scores = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, 5, 7, dtype=torch.float64)
    (expected,) = torch.autograd.grad(scores.softmax(-1), scores, gradient)
    inputs = (gradient.to(dtype), scores.softmax(-1).detach().to(dtype))
    tolerance = 1e-6 if dtype == torch.float32 else 3e-2
    assert torch.allclose(compat.softmax_backward(*inputs, dtype).double(), expected, atol=tolerance)
    assert not warnings(caplog)
    monkeypatch.delattr(torch, "_softmax_backward_data")
    without = compat.softmax_backward(*inputs, dtype)
    assert without.dtype == dtype and torch.allclose(without.double(), expected, atol=tolerance)
    assert len(warnings(caplog)) == 1


def test_routing_does_not_depend_on_the_batch_without_faiss_threshold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import faiss

    draw = np.random.default_rng(0)
    centroids, vectors = (draw.normal(size=(n, 32)).astype(np.float32) for n in (7, 333))
    expected = np.array([nearest(v[None], centroids, True, np.zeros(7))[0] for v in vectors])
    assert (nearest(vectors, centroids, True, np.zeros(7)) == expected).all()
    monkeypatch.setattr(faiss, "cvar", SimpleNamespace())
    assert (nearest(vectors, centroids, True, np.zeros(7)) == expected).all()
    assert len(warnings(caplog)) == 1 and nearest(vectors[:0], centroids, True, np.zeros(7)).shape == (0,)


def test_torch_without_public_capabilities(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert compat.native_bfloat16() is False
    assert "`auto` means float32 on CPUs" in warnings(caplog)[0]


def test_an_optimizer_that_links_its_moments_itself(caplog: pytest.LogCaptureFixture) -> None:
    compat.link_moments(SimpleNamespace())
    assert "_lazy_init_hp_params_optimizer_state" in warnings(caplog)[0]


@pytest.mark.parametrize(
    ("read", "default"),
    [
        ("draining_nodes", set()),
        ("orphaned_groups", []),
        ("unplaced_work", True),
        ("launches", []),
        ("quiet_train_reports", None),
    ],
)
def test_ray_without_its_private_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, read: str, default: Any
) -> None:
    """A Ray in which everything that is not public has moved: asked twice, said once, and nothing is raised."""
    import sys

    import ray

    from splitray.executor import compat as private

    monkeypatch.setattr(ray, "_private", SimpleNamespace())
    for module in ("ray._raylet", "ray.autoscaler.v2.sdk", "ray.train.v2._internal.execution"):
        monkeypatch.setitem(sys.modules, module, None)
    for _ in range(2):
        assert getattr(private, read)() == default
    (line,) = warnings(caplog)
    assert line.startswith(f"ray {ray.__version__} has no ")
