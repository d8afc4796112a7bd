"""The manifests of deploy/kuberay: KubeRay's fields, Kubernetes' own objects, and what must agree between them."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

import splitray
from tests.support import ROOT
from tests.support.deploy import DEPLOY, documents, image_tag, parsed_command

FOLDER = DEPLOY / "kuberay"
DOCUMENTS = [(path.name, document) for path in sorted(FOLDER.glob("*.yaml")) for document in documents(path)]
RAY = {(name, d["kind"]): d for name, d in DOCUMENTS if d["apiVersion"] == "ray.io/v1"}
SCHEMA = json.loads((ROOT / "tests/data/kuberay.json").read_text())
KUBERNETES = "1.34"


def clusters() -> Iterator[tuple[str, dict[str, Any]]]:
    """The cluster of every manifest."""
    for (name, kind), document in RAY.items():
        spec = document["spec"]
        yield name, spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
        assert kind in ("RayCluster", "RayJob", "RayService")


def groups(cluster: dict[str, Any]) -> dict[str, Any]:
    return {"head": cluster["headGroupSpec"], **{group["groupName"]: group for group in cluster["workerGroupSpecs"]}}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, cluster in clusters():
        for group, spec in groups(cluster).items():
            yield f"{name} {group}", spec["template"]["spec"]


def amount(text: str | int) -> float:
    """A quantity of Kubernetes as a number."""
    found = re.fullmatch(r"([\d.]+)(m|Mi|Gi|Ti)?", str(text))
    assert found, text
    return float(found[1]) * {None: 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}[found[2]]


def test_manifests_have_the_fields_of_kuberay() -> None:
    assert {kind for _, kind in RAY} == {"RayCluster", "RayJob", "RayService"}
    for document in RAY.values():
        jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("wrong", [{"backofLimit": 3}, {"backoffLimit": "20"}, {"submissionMode": "Local"}])
def test_schema_refuses_what_kuberay_does_not_know(wrong: dict[str, Any]) -> None:
    job = RAY["rayjob.yaml", "RayJob"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job | {"spec": job["spec"] | wrong}, SCHEMA)


def test_pods_and_core_objects_are_those_of_kubernetes() -> None:
    import kubernetes_validate

    core = [d for _, d in DOCUMENTS if d["apiVersion"].split("/")[0] not in ("ray.io", "kueue.x-k8s.io")]
    assert {d["kind"] for d in core} == {"Namespace", "ServiceAccount", "NetworkPolicy"}
    for document in core:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for name, pod in pods():
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": {"spec": pod}}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)
        assert pod["serviceAccountName"] == "splitray", name
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(template | {"template": {"spec": pod | {"volumeMounts": []}}}, KUBERNETES, True)


def test_every_volume_is_mounted_and_every_mount_has_its_volume() -> None:
    for name, pod in pods():
        (container,) = pod["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}, name
        mounts = {m["mountPath"] for m in container["volumeMounts"]}
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["TMPDIR"] in mounts, "the cache of shards follows TMPDIR"


def test_gpu_pods_have_shared_memory_and_time_for_checkpoints() -> None:
    for name, pod in pods():
        (container,) = pod["containers"]
        asked, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert asked == limits, f"{name}: what Ray takes for granted is what Kubernetes keeps for it"
        folders = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
        scratch = sum(amount(folder["sizeLimit"]) for folder in folders if "medium" not in folder)
        assert scratch < amount(asked["ephemeral-storage"]), f"{name}: its log and image layers want room too"
        if "nvidia.com/gpu" not in asked:
            continue
        shared = next(v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm")
        assert shared["medium"] == "Memory" and amount(shared["sizeLimit"]) >= 0.3 * amount(asked["memory"])
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
        if name.startswith("rayservice"):
            continue
        hook = container["lifecycle"]["preStop"]["exec"]["command"]
        assert hook[1].removeprefix("/home/ray/splitray/") == "deploy/node/drain.py" and hook[2] == "now"
        assert int(hook[3]) < pod["terminationGracePeriodSeconds"]


def test_pods_of_one_kind_are_the_same_in_every_manifest() -> None:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, pod in pods():
        if not name.startswith("rayservice"):
            kinds.setdefault(name.split()[1], []).append(pod)
    assert {kind: len(same) for kind, same in kinds.items()} == {"head": 3, "cpu": 3, "gpu": 3}
    assert [kind for kind, same in kinds.items() if any(pod != same[0] for pod in same)] == []


def test_images_and_versions_are_those_of_the_constraints() -> None:
    for name, cluster in clusters():
        assert cluster["rayVersion"] == image_tag().split("-ray")[1].split("-")[0], name
    for name, pod in pods():
        assert [c["image"].split(":")[1] for c in pod["containers"]] == [image_tag()], name


def test_nobody_comes_in_without_the_token() -> None:
    for name, cluster in clusters():
        assert cluster["authOptions"] == {"mode": "token"}, name
        head = cluster["headGroupSpec"]
        assert head["serviceType"] == "ClusterIP" and not head.get("enableIngress"), name
        assert head["rayStartParams"]["num-cpus"] == "0", "no tasks beside the job"
    for name, pod in pods():
        assert not pod.get("hostNetwork"), name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["runAsNonRoot"] is True, name
    (wall,) = [d for _, d in DOCUMENTS if d["kind"] == "NetworkPolicy"]
    assert wall["spec"]["podSelector"] == {} and wall["spec"]["policyTypes"] == ["Ingress"]
    assert not any("ipBlock" in source for rule in wall["spec"]["ingress"] for source in rule["from"])


def test_commands_of_jobs_are_ours_and_their_configuration_is_mounted() -> None:
    for name in ("rayjob.yaml", "rayjob-gang.yaml"):
        spec = RAY[name, "RayJob"]["spec"]
        options = parsed_command(shlex.split(spec["entrypoint"]))
        head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        (mounted,) = [m["mountPath"] for m in head["containers"][0]["volumeMounts"] if m["name"] == "config"]
        assert options.config == f"{mounted}/run.yaml"
        assert options.run_dir.startswith("s3://"), "a run that continues on another cluster needs a shared store"
        assert spec["backoffLimit"] >= 10 and spec["shutdownAfterJobFinishes"] is True
    base = (FOLDER / "base.yaml").read_text()
    (made,) = re.findall(r"--from-file=run.yaml=(\S+)", base)
    splitray.load_config(ROOT / made)


def test_example_fits_the_clusters() -> None:
    config = splitray.load_config(ROOT / "configs/cluster-1b.yaml")
    for name in ("raycluster.yaml", "rayjob.yaml", "rayjob-gang.yaml"):
        cluster = next(cluster for file, cluster in clusters() if file == name)
        gpu = groups(cluster)["gpu"]
        asked = gpu["template"]["spec"]["containers"][0]["resources"]["requests"]
        gpus = int(asked["nvidia.com/gpu"])
        assert gpus * gpu["maxReplicas"] >= (config.resources.capacity or 0)
        assert gpus * config.training.worker_cpus <= float(asked["cpu"]), "every GPU's process finds its CPUs"
        autoscaled = cluster.get("enableInTreeAutoscaling", False)
        assert gpu["minReplicas"] == (0 if autoscaled else gpu["maxReplicas"])


def test_queue_has_room_for_the_whole_job() -> None:
    queue = next(d for _, d in DOCUMENTS if d["kind"] == "ClusterQueue")
    (group,) = queue["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    quota = {resource["name"]: amount(resource["nominalQuota"]) for resource in flavor["resources"]}
    assert list(quota) == group["coveredResources"], "Kueue wants one order"
    job = RAY["rayjob-gang.yaml", "RayJob"]
    needed: dict[str, float] = {"cpu": 1.0, "memory": 2.0**30}  # of the pod that submits
    for spec in groups(job["spec"]["rayClusterSpec"]).values():
        for resource, text in spec["template"]["spec"]["containers"][0]["resources"]["requests"].items():
            needed[resource] = needed.get(resource, 0.0) + amount(text) * spec.get("replicas", 1)
    assert set(needed) == set(quota)
    assert {resource for resource, held in needed.items() if held > quota[resource]} == set()
    local = next(d for _, d in DOCUMENTS if d["kind"] == "LocalQueue")
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": local["metadata"]["name"]}
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    assert not job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling"), "Kueue admits jobs of a fixed size"


def test_service_is_one_that_serve_can_build() -> None:
    from ray._common.utils import import_attr
    from ray.serve.schema import ServeDeploySchema

    from splitray.serve.deployment import ServedRun

    spec = RAY["rayservice.yaml", "RayService"]["spec"]
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"])).applications
    assert callable(import_attr(application.import_path))
    arguments = ServedRun(**application.args)
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    asked = container["resources"]["requests"]
    assert arguments.gpus * arguments.replicas <= int(asked["nvidia.com/gpu"]) * group["replicas"]
    assert arguments.threads <= float(asked["cpu"])
    tokens = [e["valueFrom"]["secretKeyRef"] for e in container["env"] if e["name"] == "SPLITRAY_SERVE_TOKEN"]
    assert tokens == [{"name": "splitray-serve", "key": "token"}]
