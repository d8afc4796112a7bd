"""Words for work that the cluster does not start."""

import pytest

from splitray.executor.compat import Holder, Launch, refusal
from splitray.executor.waiting import autoscaling, describe, impossible


def test_who_holds_the_cluster_in_words() -> None:
    found = [Holder("splitray/demo/1", "ladder[1]", "01", 1.0), Holder("splitray/other/2", "ladder[0]", "02", 1.0)]
    found += [Holder("x", "mine", "03", 1.0), Holder("splitray/demo/1", "ladder[0]", "01", 1.0)]
    assert describe(found, "splitray/demo/1") == (
        "mine of another job; ladder[0] of run other; ladder[0], ladder[1] of this run"
    )
    # a worker group lies in Ray's own namespace: its job says whose it is
    found = [Holder("splitray/other/2", "ladder[0]", "02", 1.0), Holder("b7c1", "a worker group", "02", 2.0)]
    assert describe(found, "splitray/demo/1") == "a worker group, ladder[0] of run other"
    # before the run has a namespace of its own
    assert describe([Holder("x", "mine", "03", 1.0)], "") == "mine of another job"
    assert describe([], "splitray/demo/1") == "tasks, or workers that are being started"


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        ([{"CPU": 1.0}], None),
        ([{"CPU": 2.0}, {"CPU": 4.0}], None),
        ([{"CPU": 3.0, "GPU": 1.0}], "3 CPUs, 1 GPU, and no node has it (at most 4 CPUs, 1 GPU)"),
        ([{"CPU": 1.0}, {"CPU": 5.8499}], "6 CPUs, and no node has it (at most 4 CPUs)"),
        ([{"memory": 3 * 2.0**30}], "3.0 GiB of memory, and no node has it (at most 2.0 GiB of memory)"),
        ([{"CPU": 1.0, "node:10.0.0.1": 0.001}], None),
    ],
)
def test_what_no_node_can_ever_have(waiting: list[dict[str, float]], words: str | None) -> None:
    """Four CPUs without a GPU beside two with one: 6 CPUs are in the cluster, and on no node."""
    nodes = [{"CPU": 4.0, "memory": 2.0**30}, {"CPU": 2.0, "GPU": 1.0, "memory": 2 * 2.0**30}]
    found = impossible(waiting, nodes)
    assert found is None if words is None else found == f"work asks one node for {words}"


def test_what_an_autoscaler_cannot_start_is_named_before_what_it_starts() -> None:
    assert autoscaling("ladder[0]", []) is None
    asked = [Launch("trainer", 2), Launch("trainer", 1), Launch("small", 1)]
    assert autoscaling("ladder[0]", asked) == (
        "ladder[0] waits for the autoscaler, which is starting 3 nodes of type trainer, 1 node of type small"
    )
    asked.append(Launch("spot", 4, "InsufficientInstanceCapacity:\n no capacity for spot in this zone " + 400 * "x"))
    said = autoscaling("ladder[0], base", asked)
    assert said is not None and said.startswith(
        "ladder[0], base waits for nodes that the autoscaler could not start. spot: InsufficientInstanceCapacity: no "
        "capacity for spot in this zone xxx"
    )
    assert "Meanwhile it starts 3 nodes of type trainer" in said and len(said) < 700


def test_the_reason_of_a_refusal_comes_from_the_autoscaler_s_log() -> None:
    """Lines as Ray 2.60 writes them."""
    log = "\n".join(
        f"2026-01-01 10:00:0{second},366	INFO node_provider.py:491 -- {text}"
        for second, text in enumerate(
            (
                "Failed to launch 1 nodes of type gpu: MaxSpotInstanceCountExceeded: 0 vCPUs",
                "Failed to launch 2 nodes of type gpu: InsufficientInstanceCapacity: none in us-east-1a",
                "Failed to launch 1 nodes of type gpu.large: VcpuLimitExceeded",
                "Launching 1 nodes of type gpu.",
            )
        )
    )
    assert refusal(log, "gpu") == "InsufficientInstanceCapacity: none in us-east-1a", "the last one"
    assert refusal(log, "gpu.large") == "VcpuLimitExceeded"
    assert refusal(log, "cpu") == ""
