"""`cluster.yaml` and what it needs on AWS: bootstrapped by Ray's own provider against a stand-in for EC2."""

import copy
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import splitray
from tests.support import ROOT
from tests.support.deploy import DEPLOY, extras, installed_extras, pins

CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
NODES: dict[str, Any] = CLUSTER["available_node_types"]
GPU_NODES = {name: node for name, node in NODES.items() if name not in ("head", "cpu")}
# EFA interfaces that AWS states for a type, and the share of an 8-GPU node that its driver leaves to a process
CARDS = {"p4d.24xlarge": 4, "p4de.24xlarge": 4, "p5.48xlarge": 32}


@dataclass
class Account:
    """What an account has once the template is deployed and `ray up` has begun."""

    outputs: dict[str, str]
    bootstrapped: dict[str, Any]
    requests: dict[str, dict[str, Any]]  # what was sent to RunInstances, by node type
    instances: dict[str, dict[str, Any]]  # what it became
    gpu_gib: dict[str, float]  # memory of one GPU, by node type


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An empty account, then the stack of deploy/aws/network.yaml, then one node of every type of cluster.yaml."""
    import boto3
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        home = tmp_path_factory.mktemp("home")
        (home / ".ssh").mkdir()
        for name, value in {"HOME": str(home), "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
            patch.setenv(name, value)
        outputs = _stack(boto3.client("cloudformation", "us-east-1"))
        ec2 = boto3.client("ec2", "us-east-1")
        image = ec2.register_image(Name="base", RootDeviceName="/dev/sda1")["ImageId"]
        text = (ROOT / "cluster.yaml").read_text()
        for mark, value in (("subnet", outputs["Subnet"]), ("sg", outputs["SecurityGroup"]), ("ami", image)):
            text = text.replace(f"{mark}-REPLACE", value)
        yield _up(outputs, yaml.safe_load(text), ec2)


def _stack(cloudformation: Any) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto has no placement group and no endpoint for the tunnel
        cloudformation.create_stack(
            StackName="splitray",
            TemplateBody=(DEPLOY / "aws/network.yaml").read_text(),
            Parameters=[{"ParameterKey": "Zone", "ParameterValue": "us-east-1a"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    (stack,) = cloudformation.describe_stacks(StackName="splitray")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _up(outputs: dict[str, str], cluster: dict[str, Any], ec2: Any) -> Account:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    bootstrapped = bootstrap_aws(prepared)
    provider = AWSNodeProvider(bootstrapped["provider"], cluster["cluster_name"])
    sent: dict[str, dict[str, Any]] = {}
    kind = ""
    provider.ec2_fail_fast.meta.client.meta.events.register(
        "before-parameter-build.ec2.RunInstances", lambda params, **_: sent.__setitem__(kind, copy.deepcopy(params))
    )
    for kind, node in bootstrapped["available_node_types"].items():
        provider.create_node(copy.deepcopy(node["node_config"]), {"ray-user-node-type": kind}, 1)
    made = [i for reservation in ec2.describe_instances()["Reservations"] for i in reservation["Instances"]]
    instances = {tag["Value"]: i for i in made for tag in i["Tags"] if tag["Key"] == "ray-user-node-type"}
    types = [node["node_config"]["InstanceType"] for node in GPU_NODES.values()]
    facts = ec2.describe_instance_types(InstanceTypes=sorted(set(types)))["InstanceTypes"]
    memory = {fact["InstanceType"]: fact["GpuInfo"]["Gpus"][0]["MemoryInfo"]["SizeInMiB"] / 1024 for fact in facts}
    gpu_gib = {name: memory[node["node_config"]["InstanceType"]] for name, node in GPU_NODES.items()}
    return Account(outputs, bootstrapped, sent, instances, gpu_gib)


def test_cluster_passes_ray_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(CLUSTER))  # as `ray up` does: defaults filled in, worker counts checked
    validate_config(prepared)
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepared | {"max_worker": 3})  # the schema does refuse what it does not know


def test_every_node_type_starts_without_a_public_address(account: Account) -> None:
    assert set(account.requests) == set(account.instances) == set(NODES)
    for name, request in account.requests.items():
        first = request["NetworkInterfaces"][0]
        assert first["AssociatePublicIpAddress"] is False, name
        assert all(card["SubnetId"] == account.outputs["Subnet"] for card in request["NetworkInterfaces"])
        assert all(card["Groups"] == [account.outputs["SecurityGroup"]] for card in request["NetworkInterfaces"])
        assert request["MetadataOptions"]["HttpTokens"] == "required"
        assert account.instances[name].get("PublicIpAddress") is None
    assert account.bootstrapped["provider"]["use_internal_ips"] is True


def test_gpu_nodes_have_every_card_of_their_network(account: Account) -> None:
    for name in GPU_NODES:
        request = account.requests[name]
        cards = request["NetworkInterfaces"]
        assert [card["NetworkCardIndex"] for card in cards] == list(range(CARDS[request["InstanceType"]])), name
        assert [card["DeviceIndex"] for card in cards] == [0] + [1] * (len(cards) - 1)
        assert [card["InterfaceType"] for card in cards] == ["efa"] + ["efa-only"] * (len(cards) - 1)
        assert request["Placement"] == {"GroupName": "splitray"}


def test_nothing_runs_before_a_stage_asks_and_the_head_is_no_spot_node(account: Account) -> None:
    assert {node["min_workers"] for name, node in NODES.items() if name != "head"} == {0}
    lifecycle = {name: instance.get("InstanceLifecycle") for name, instance in account.instances.items()}
    assert lifecycle["head"] is None and lifecycle["gpu_on_demand"] is None
    assert lifecycle["gpu_spot"] == lifecycle["cpu"] == "spot"
    profiles = {name: request["IamInstanceProfile"]["Name"] for name, request in account.requests.items()}
    assert profiles.pop("head") == "splitray-head" and set(profiles.values()) == {"splitray-worker"}


def test_example_fits_the_gpus_of_every_type(account: Account) -> None:
    """Peaks of the 1.3B model on one H100, eager: 44.1 GiB at a micro-batch of 4, 65.1 at 8; a line between them."""
    config = splitray.load_config(ROOT / "configs/cluster-1b.yaml")
    (named,) = re.findall(r"needs training.micro_batch_size: (\d+) there", (ROOT / "cluster.yaml").read_text())
    for name, gib in account.gpu_gib.items():
        micro_batch = int(named) if name == "p4d_spot" else config.training.micro_batch_size
        peak = 44.1 + (65.1 - 44.1) / 4 * (micro_batch - 4)
        assert peak < 0.9 * gib, f"{name}: {peak:.1f} GiB of {gib:g}"
    usable = [node for node in GPU_NODES.values() if node["max_workers"]]
    assert config.resources.capacity is not None and len(usable) == 2
    assert all(8 * node["max_workers"] >= config.resources.capacity for node in usable)
    assert CLUSTER["max_workers"] >= NODES["cpu"]["max_workers"] + usable[0]["max_workers"]
    assert account.gpu_gib["p4d_spot"] < 41 < 79 < account.gpu_gib["gpu_spot"], "as the comments say"


def _launches(demand: list[dict[str, float]], refused: set[str]) -> dict[str, int]:
    """How many nodes of which type Ray's autoscaler starts for a demand, where a cloud has just refused some types."""
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    resources = {"head": {"CPU": 0}, "cpu": {"CPU": 32}, **{name: {"CPU": 96, "GPU": 8} for name in GPU_NODES}}
    cluster = prepare_config(copy.deepcopy(CLUSTER))
    for name, node in cluster["available_node_types"].items():
        node["resources"] = resources[name]
    requests = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(bundle) for bundle in demand])
    scores = {name: 0.0 if name in refused else 1.0 for name in NODES}
    config = AutoscalingConfig(cluster, skip_content_hash=True)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=requests,
            disable_launch_config_check=True,
            recoverable_resource_availabilities=scores,
            cloud_resource_availabilities=scores,
        )
    )
    assert not reply.infeasible_resource_requests
    return {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}


def test_autoscaler_takes_spot_nodes_first_and_on_demand_where_they_are_refused() -> None:
    group = [{"CPU": 8.0, "GPU": 1.0}] * 64  # the base of configs/cluster-1b.yaml
    assert _launches(group, refused=set()) == {"gpu_spot": 8}
    assert _launches(group, refused={"gpu_spot"}) == {"gpu_on_demand": 8}
    assert _launches([{"CPU": 1.0}] * 64, refused=set()) == {"cpu": 2}, "the corpus starts no GPU node"


def test_starts_ask_for_a_token_on_loopback_and_the_node_tells_of_its_end() -> None:
    head, worker = CLUSTER["head_start_ray_commands"], CLUSTER["worker_start_ray_commands"]
    starts = [command for command in head + worker if "ray start" in command]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert CLUSTER["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("deploy/node/drain.py aws" in command for command in worker)
    assert "chmod 600 ~/.ray/auth_token" in CLUSTER["setup_commands"]


def test_cluster_installs_this_project_with_its_pins() -> None:
    commands = [*CLUSTER["setup_commands"], *CLUSTER["head_setup_commands"]]
    installs = [command for command in commands if "pip install" in command]
    assert len(installs) == 2 and all("-c constraints.txt" in command for command in installs)
    (asked,) = installed_extras("\n".join(installs))
    assert set(asked) <= extras()
    # configs/cluster-1b.yaml embeds by a sentence model: workers build with it, the head routes with it
    assert {"cpu", "sentence"} <= set(asked)
    assert "boto3" in pins(), "the autoscaler on the head imports it"
    comments = (ROOT / "cluster.yaml").read_text()
    assert f"torch {pins()['torch']} from PyPI" in comments


def test_template_has_no_fault(tmp_path: Path) -> None:
    from cfnlint.api import lint_file

    assert lint_file(DEPLOY / "aws/network.yaml") == []
    broken = tmp_path / "broken.yaml"
    broken.write_text((DEPLOY / "aws/network.yaml").read_text().replace("!Ref PrivateSubnet", "!Ref Missing"))
    assert lint_file(broken), "the linter does find what is wrong"


def test_account_has_no_way_in(account: Account) -> None:
    import boto3

    ec2 = boto3.client("ec2", "us-east-1")
    of_stack = {"Name": "tag:aws:cloudformation:stack-name", "Values": ["splitray"]}
    groups = ec2.describe_security_groups(Filters=[of_stack])
    found = {group["GroupId"]: group["IpPermissions"] for group in groups["SecurityGroups"]}
    assert account.outputs["SecurityGroup"] in found
    open_to = [ip["CidrIp"] for rules in found.values() for rule in rules for ip in rule["IpRanges"]]
    assert open_to == [], "groups may come in, addresses may not"
    (subnet,) = ec2.describe_subnets(SubnetIds=[account.outputs["Subnet"]])["Subnets"]
    assert subnet["MapPublicIpOnLaunch"] is False
    text = (DEPLOY / "aws/network.yaml").read_text()  # the stand-in forgets this property of a bucket
    assert {"BlockPublicAcls: true", "BlockPublicPolicy: true", "RestrictPublicBuckets: true"} <= set(
        re.findall(r"\w+: true", text)
    )
