"""deploy/gcp/cluster.yaml: Ray's schema, and what it shares with the cluster on AWS."""

import copy
from typing import Any

import pytest
import yaml

import splitray
from tests.support import ROOT
from tests.support.deploy import DEPLOY, extras, installed_extras, pins

TEXT = (DEPLOY / "gcp/cluster.yaml").read_text()
CLUSTER = yaml.safe_load(TEXT)
NODES: dict[str, Any] = CLUSTER["available_node_types"]
AWS = yaml.safe_load((ROOT / "cluster.yaml").read_text())
# Fields of an instance of Google's Compute Engine that the file uses: a misspelt one is refused there only at a start.
FIELDS = {"machineType", "disks", "networkInterfaces", "serviceAccounts", "shieldedInstanceConfig", "scheduling"}


def test_cluster_passes_ray_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(CLUSTER)))
    assert {field for node in NODES.values() for field in node["node_config"]} == FIELDS


def test_nodes_have_no_public_address_and_no_way_in() -> None:
    assert CLUSTER["provider"]["use_internal_ips"] is True
    for name, node in NODES.items():
        for interface in node["node_config"]["networkInterfaces"]:
            assert "accessConfigs" not in interface, f"{name}: that is what makes an address public"
    starts = [c for c in CLUSTER["head_start_ray_commands"] + CLUSTER["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    rules = [line for line in (DEPLOY / "gcp/network.sh").read_text().splitlines() if "firewall-rules create" in line]
    open_to = [rule.split("--source-ranges=")[1] for rule in rules]
    assert open_to == ["10.0.0.0/20", "35.235.240.0/20"], "the subnet itself, and Identity-Aware Proxy"


def test_head_stays_and_workers_come_and_go() -> None:
    models = {n: t["node_config"].get("scheduling", {}).get("provisioningModel") for n, t in NODES.items()}
    assert models == {"head": None, "cpu": "SPOT", "gpu_spot": "SPOT", "gpu_on_demand": "STANDARD", "a3_spot": "SPOT"}
    assert {node.get("min_workers", 0) for node in NODES.values()} == {0}
    assert NODES["gpu_spot"]["priority"] > NODES["gpu_on_demand"]["priority"]
    capacity = splitray.load_config(ROOT / "configs/cluster-1b.yaml").resources.capacity
    for name in ("gpu_spot", "gpu_on_demand"):
        assert NODES[name]["resources"]["GPU"] * NODES[name]["max_workers"] == capacity


def test_shares_with_aws_what_is_not_the_clouds() -> None:
    for key in (
        "cluster_name",
        "max_workers",
        "upscaling_speed",
        "idle_timeout_minutes",
        "file_mounts",
        "rsync_exclude",
    ):
        assert CLUSTER[key] == AWS[key], key
    assert installed_extras(TEXT) == installed_extras((ROOT / "cluster.yaml").read_text())
    assert all(set(asked) <= extras() for asked in installed_extras(TEXT))
    assert any("deploy/node/drain.py gcp" in command for command in CLUSTER["worker_start_ray_commands"])
    assert f"torch {pins()['torch']} from PyPI" in TEXT


@pytest.mark.parametrize("path", sorted((DEPLOY / "gcp").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_named_in_the_cluster_or_the_page(path: Any) -> None:
    assert f"deploy/gcp/{path.name}" in TEXT + (ROOT / "docs/operate.md").read_text()
