"""The frame around the code: what is pinned, what the README tells people to type, the cluster's description."""

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and requirement.url is None, line
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def test_every_requirement_is_pinned_inside_its_range(pins: dict[str, Version]) -> None:
    named = [*PROJECT["dependencies"], *(r for rs in PROJECT["optional-dependencies"].values() for r in rs)]
    requirements = [r for r in map(Requirement, named) if r.name != PROJECT["name"]]
    assert len(requirements) > 20
    for requirement in requirements:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_pins_serve_every_kind_of_machine(pins: dict[str, Version]) -> None:
    assert "splitray" not in pins
    assert [name for name, version in pins.items() if version.local] == []


def test_readme_commands_exist() -> None:
    rules = re.findall(r"^([a-z]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"^(?:\$ )?make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= used <= set(rules)
    files = set(re.findall(r"\b(?:jobs|configs|docs)/[\w.-]+\.(?:py|yaml|md|png)", README))
    assert files and [name for name in sorted(files) if not (ROOT / name).is_file()] == []


def test_cluster_passes_ray_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    prepared = prepare_config(cluster)  # as `ray up` does: defaults filled in, worker counts checked
    validate_config(prepared)
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepared | {"max_worker": 3})  # the schema does refuse what it does not know


def test_cluster_starts_empty_and_shut() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    workers = {n: t for n, t in cluster["available_node_types"].items() if n != cluster["head_node_type"]}
    assert {t["min_workers"] for t in workers.values()} == {0}
    assert workers["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    starts = [c for c in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in c for c in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_cluster_installs_this_project(pins: dict[str, Version]) -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    nodes = cluster["available_node_types"]
    images = [cluster["docker"]["image"], nodes["gpu"]["docker"]["worker_image"]]
    assert all(image.startswith(f"rayproject/ray:{pins['ray']}-py311") for image in images)
    commands = [*cluster["setup_commands"], *nodes["gpu"]["worker_setup_commands"]]
    listed = [re.findall(r"'\.\[([\w,]+)\]'", command)[0].split(",") for command in commands]
    assert [extras[0] for extras in listed] == ["cpu", "gpu"]
    assert {extra for extras in listed for extra in extras} <= set(PROJECT["optional-dependencies"])
    assert all("-c constraints.txt" in command for command in commands)
    # the shipped cluster config embeds by a sentence model: GPU workers build with it, the head routes with it
    assert all("sentence" in extras for extras in listed)
