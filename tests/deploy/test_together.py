"""What must agree between all files under deploy/: names that somebody reads, versions, tools that check them."""

import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT
from tests.support.deploy import DEPLOY, extras, image_tag, installed_extras, parsed_command, pins, tool

FILES = [ROOT / "cluster.yaml", *sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc")]
SCRIPTS = [path for path in FILES if path.suffix == ".sh" or path.suffix == ".sbatch"]

# Variables of other programs, and who reads them. Those of Ray and of splitray are looked up in their sources.
KNOWN = {
    "TMPDIR": "Python's tempfile, and so splitray's cache and torch.compile's",
    "HF_HOME": "huggingface_hub",
    "LD_LIBRARY_PATH": "the loader, for EFA's library and NCCL's plugin",
    "FI_PROVIDER": "libfabric",
    "FI_EFA_USE_DEVICE_RDMA": "libfabric's EFA provider",
    "NCCL_SOCKET_IFNAME": "NCCL",
    "NCCL_DEBUG": "NCCL",
    "NVIDIA_VISIBLE_DEVICES": "NVIDIA's container toolkit",
    "NVIDIA_DRIVER_CAPABILITIES": "NVIDIA's container toolkit",
    "BUCKET": "the file itself",
    "CONFIG": "the file itself",
}


def variables(path: Path) -> set[str]:
    """Names of the environment that a file sets."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", path.read_text())
    patterns = (
        r"export ([A-Z][A-Z_0-9a-z]+)=",  # a shell
        r"\bENV ([A-Z_]+)=",  # a Dockerfile, the first of a line
        r"\{name: ([A-Z_]+), value",  # Kubernetes
        r"- name: ([A-Z_]+)\n",
        r"(?m)^\s+-?\s*([A-Z][A-Z_]+)(?:=|: |\s*$)",  # SkyPilot, dstack
        r"\b(RAY_[A-Z_]+)=\S+ (?:ray|nohup|exec)",
    )
    return {name for pattern in patterns for name in re.findall(pattern, text)}


@pytest.fixture(scope="module")
def read_by_ray() -> str:
    spec = find_spec("ray")
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    return "\n".join(path.read_text(errors="ignore") for path in root.rglob("*.py") if "tests" not in path.parts)


def test_every_variable_is_one_that_somebody_reads(read_by_ray: str) -> None:
    ours = "\n".join(path.read_text() for path in (ROOT / "splitray").rglob("*.py"))
    found = {name: path.name for path in FILES for name in variables(path)}
    assert {"TMPDIR", "RAY_AUTH_MODE", "SPLITRAY_SERVE_TOKEN", "NCCL_DEBUG", "HF_HOME", "FI_PROVIDER"} <= set(found)
    unread = set()
    for name in found.keys() - KNOWN.keys():
        source = ours if name.startswith("SPLITRAY_") else read_by_ray
        # Ray's own settings have the prefix RAY_ added to their name, so that only the rest is in the source
        if f'"{name}"' not in source and f'"{name.removeprefix("RAY_")}"' not in source:
            unread.add(f"{name} of {found[name]}")
    assert unread == set()


def test_images_have_one_tag() -> None:
    """Two nodes of other versions fail late; the tag says what decides."""
    tags = {
        (path.name, tag) for path in FILES for tag in re.findall(r"REGISTRY-REPLACE/splitray:(\S+)", path.read_text())
    }
    assert {tag for _, tag in tags} == {image_tag()} and len(tags) >= 5


def test_dockerfile_has_no_fault_and_installs_every_extra() -> None:
    subprocess.run([tool("hadolint"), str(DEPLOY / "Dockerfile")], check=True)
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)$", text, re.M) == [f"rayproject/ray:{pins()['ray']}-py311"]
    (asked,) = installed_extras(text)
    # `cpu` brings the engines; `gpu` differs by a faiss that nothing uses, and both provide one module
    # `serve-gpu` asks for a FastAPI that is older than that of constraints.txt, so no image has both
    assert set(asked) == extras() - {"dev", "docs", "engines", "gpu", "serve-gpu"}
    assert text.count("-c constraints.txt") == 2
    assert all(
        (ROOT / name).exists() for name in re.findall(r"\b(constraints.txt|pyproject.toml|README.md|LICENSE)\b", text)
    )
    last_user = re.findall(r"^USER (\d+)$", text, re.M)[-1]
    assert last_user == "1000", "the image does not run as root, and KubeRay's pods ask for this user"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_fault_of_the_shell(path: Path) -> None:
    subprocess.run([tool("shellcheck"), str(path)], check=True)


def test_every_file_that_is_named_exists() -> None:
    for path in FILES:
        for name in re.findall(r"\b((?:deploy|configs|docs|jobs)/[\w./-]+\.\w+)", path.read_text()):
            assert (ROOT / name).is_file(), f"{path.name} names {name}"


def test_every_command_line_is_one_that_we_take() -> None:
    lines = {
        (path.name, line) for path in FILES for line in re.findall(r"splitray (run --[^&\\\n']+)", path.read_text())
    }
    assert len({name for name, _ in lines}) >= 5
    for name, line in lines:
        options = parsed_command(["splitray", *shlex.split(line)])
        assert options.config and options.run_dir, f"{name}: {line}"


def test_no_file_opens_a_port_or_switches_the_token_off() -> None:
    for path in FILES:
        text = path.read_text()
        assert "RAY_AUTH_MODE=disabled" not in text and "AUTH_MODE: disabled" not in text, path.name
        assert "dashboard-host=0.0.0.0" not in text and "LoadBalancer" not in text and "NodePort" not in text, path.name
        for start in re.finditer(r"ray start --", text):
            assert "RAY_AUTH_MODE" in text[: start.start()], f"{path.name} starts a Ray that asks for no token"


def test_least_driver_is_the_same_everywhere() -> None:
    """torch 2.13 from PyPI is built for CUDA 13; the probe's table says from which driver on that works."""
    from splitray.runtime.gpu import _NEEDED

    told = {found for path in FILES for found in re.findall(r"driver (\d{3}) or newer", path.read_text())}
    assert told == {str(_NEEDED[13])}


def test_yaml_has_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    Strict.add_multi_constructor("!", lambda loader, suffix, node: None)
    for path in FILES:
        if path.suffix in (".yaml", ".yml"):
            list(yaml.load_all(path.read_text(), Strict))
